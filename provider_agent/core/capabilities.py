# SPDX-License-Identifier: Apache-2.0
"""What this machine could judge: the capabilities that its settings and GPUs make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from provider_agent.devices import Device
from teraproof.protocol.capability import CPU, KINDS, Capability, gpu_class, hardware_of


def capabilities(
    runtimes: Iterable[str], gpus_a_job: int, devices: Sequence[Device]
) -> list[Capability]:
    """All of them, sorted. `gpus_a_job` is the most that the settings give to one job.

    Every machine runs jobs without GPUs. With GPUs it runs those that need as many of one class as
    it has and gives.
    """
    there = Counter(gpu_class(device.name) for device in devices if device.kind != CPU)
    hardware = {CPU}
    for name, number in there.items():
        if name is not None:
            hardware |= {hardware_of(name, n) for n in range(1, min(number, gpus_a_job) + 1)}
    found = [
        Capability(kind, runtime, one)
        for kind in KINDS
        for runtime in sorted(set(runtimes))
        for one in sorted(hardware)
    ]
    return sorted(found, key=str)
