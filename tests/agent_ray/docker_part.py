# SPDX-License-Identifier: Apache-2.0
"""The runner of a machine of the tests that has a real engine."""

from __future__ import annotations

import os
from pathlib import Path

from provider_agent.runners.base import MIB
from provider_agent.runners.docker.runner import DockerRunner

SOCKET = "TERAPROOF_TEST_ENGINE"
"""The variable that names the engine's socket."""


def make(place: Path, agent: str) -> DockerRunner:
    """As `cluster.Terms` names it."""
    return DockerRunner(
        place, agent, socket=Path(os.environ[SOCKET]), reserve=MIB, log_bytes=64 * 1024
    )
