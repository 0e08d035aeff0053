# SPDX-License-Identifier: Apache-2.0
"""The runner that the settings ask for."""

from __future__ import annotations

from provider_agent.core.settings import Settings
from provider_agent.runners.process import ProcessRunner


def make_runner(settings: Settings) -> ProcessRunner:
    """The runner of the settings; no job sees the keys or the data directory."""
    operator = settings.operator
    secret = (operator.keystore, operator.password_file, operator.private_key_file)
    return ProcessRunner(
        settings.agent.data_dir,
        sandbox_kind=settings.runner.sandbox,
        unlimited=bool(settings.runner.allow_unlimited),
        probe_runtime=next(iter(settings.runner.runtimes.values()), None),
        private=[path.parent for path in secret if path is not None],
    )
