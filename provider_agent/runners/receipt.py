# SPDX-License-Identifier: Apache-2.0
"""The receipt of a run, made of what the runner knows about it."""

from __future__ import annotations

from provider_agent.errors import RunnerError
from provider_agent.runners.base import Phase, RunRequest, RunState
from teraproof.protocol.digests import Origin
from teraproof.protocol.receipt import Receipt


def of_run(origin: Origin, run: RunRequest, state: RunState) -> Receipt:
    """The receipt of a run that has ended. Raises RunnerError for one that has not."""
    if (
        state.phase is not Phase.EXITED
        or state.reason is None
        or state.started is None
        or state.finished is None
    ):
        raise RunnerError(f"run {run.run_id} has not ended, so there is no receipt for it")
    return Receipt(
        job="0x" + origin.job.hex(),
        cpu_ms=state.usage.cpu_ms,
        gpu_ms=state.usage.gpu_ms,
        peak_memory_bytes=state.usage.peak_memory_bytes,
        energy_mj=state.usage.energy_mj,
        reason=state.reason.value,
        exit_code=state.exit_code,
        started=state.started,
        # The clock may have been set back during the run.
        finished=max(state.started, state.finished),
        devices=tuple(device.name for device in run.devices),
        sandbox=dict(state.sandbox),
        provider=origin.provider.lower(),
    )
