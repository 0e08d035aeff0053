# SPDX-License-Identifier: Apache-2.0
"""The machine's devices and what they are doing, read through NVML.

NVML is NVIDIA's management library; its Python binding is the module `pynvml` of the package
nvidia-ml-py. Where it or the driver is missing, the machine counts as one CPU device. A GPU that
falls off the bus, or a reading that the driver does not offer, is left out or None: telemetry
never stops the agent.
"""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

_Reading = TypeVar("_Reading")


@dataclass(frozen=True)
class Device:
    """One device that can be given to a job.

    `index` is NVML's; `node` is the device file, whose number (the minor) may differ from it.
    `memory_bytes` is the device's own memory, for a CPU the machine's. `cores` is 0 for a GPU.
    """

    kind: str  # "cuda" or "cpu"
    index: int
    name: str
    uuid: str
    memory_bytes: int
    driver: str = ""
    node: str = ""
    cores: int = 0


@dataclass(frozen=True)
class Sample:
    """One reading of a device. None: not offered by this device or driver.

    Power in milliwatts, energy in millijoules since the driver was loaded, use in percent, memory
    in bytes, temperature in degrees Celsius.
    """

    power_mw: int | None = None
    energy_mj: int | None = None
    utilisation_percent: int | None = None
    memory_used_bytes: int | None = None
    temperature_c: int | None = None


def inventory(nvml: Any | None = None) -> list[Device]:
    """All usable GPUs in NVML's order, or one CPU device where there is none.

    `nvml` is the module to ask; tests pass their own.
    """
    return gpus(nvml) or [cpu()]


def gpus(nvml: Any | None = None) -> list[Device]:
    """The usable NVIDIA GPUs; an empty list without a driver."""
    found: list[Device] = []
    with _session(nvml) as library:
        if library is None:
            return found
        driver = _read(library, lambda: _text(library.nvmlSystemGetDriverVersion())) or ""
        for index in range(_read(library, library.nvmlDeviceGetCount) or 0):
            device = _read(library, partial(_describe, library, index, driver))
            if device is not None:
                found.append(device)
    return found


def cpu() -> Device:
    """The machine's processors as one device."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device("cpu", 0, _cpu_name(), f"cpu-{platform.machine()}", memory, cores=cores)


def sample(device: Device, nvml: Any | None = None) -> Sample:
    """What the device is doing now; all None for a CPU or a GPU that does not answer."""
    if device.kind != "cuda":
        return Sample()
    with _session(nvml) as library:
        if library is None:
            return Sample()
        # By UUID: indices shift when a GPU is lost.
        handle = _read(library, lambda: library.nvmlDeviceGetHandleByUUID(device.uuid))
        if handle is None:
            return Sample()
        return Sample(
            power_mw=_read(library, lambda: int(library.nvmlDeviceGetPowerUsage(handle))),
            energy_mj=_read(
                library, lambda: int(library.nvmlDeviceGetTotalEnergyConsumption(handle))
            ),
            utilisation_percent=_read(
                library, lambda: int(library.nvmlDeviceGetUtilizationRates(handle).gpu)
            ),
            memory_used_bytes=_read(
                library, lambda: int(library.nvmlDeviceGetMemoryInfo(handle).used)
            ),
            temperature_c=_read(
                library,
                lambda: int(library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU)),
            ),
        )


def _describe(library: Any, index: int, driver: str) -> Device:
    """One GPU; raises NVMLError where it does not answer what a job needs to know."""
    handle = library.nvmlDeviceGetHandleByIndex(index)
    return Device(
        kind="cuda",
        index=index,
        name=_text(library.nvmlDeviceGetName(handle)),
        uuid=_text(library.nvmlDeviceGetUUID(handle)),
        memory_bytes=int(library.nvmlDeviceGetMemoryInfo(handle).total),
        driver=driver,
        node=f"/dev/nvidia{int(library.nvmlDeviceGetMinorNumber(handle))}",
    )


@contextmanager
def _session(nvml: Any | None) -> Iterator[Any | None]:
    """An initialised NVML, or None where there is no binding, no driver or no permission.

    Init and shutdown are counted by NVML itself, so that sessions may nest.
    """
    library = _binding() if nvml is None else nvml
    if library is None or not _initialise(library):
        yield None
        return
    try:
        yield library
    finally:
        _read(library, library.nvmlShutdown)


def _initialise(library: Any) -> bool:
    try:
        library.nvmlInit()
    except library.NVMLError:
        return False
    return True


def _binding() -> ModuleType | None:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _read(library: Any, ask: Callable[[], _Reading]) -> _Reading | None:
    """One answer of NVML, or None where it has none."""
    try:
        return ask()
    except library.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    """Older bindings answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass  # not Linux, or /proc is hidden: the architecture names it well enough
    return platform.machine() or "cpu"
