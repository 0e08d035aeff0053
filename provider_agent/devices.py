# SPDX-License-Identifier: Apache-2.0
"""The machine's devices and what they are doing, read through NVML.

NVML is NVIDIA's management library; its Python binding is the module `pynvml` of the package
nvidia-ml-py. Where it or the driver is missing, the machine counts as one CPU device. A GPU that
does not answer is left out, and a survey says why in NVML's own words. A reading that the driver
does not offer is None. Telemetry never stops the agent.

A GPU in MIG mode is not a device of its own: its instances are.
"""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

_Reading = TypeVar("_Reading")

# Numbers of nvml.h, which the binding hands on as `value`.
_LIBRARY_NOT_FOUND = 12
_HELP = {
    3: "the driver has no device file for it, as under WSL; the agent needs a Linux driver",
    4: "give the agent's user access to /dev/nvidia*",
    9: "load the driver (modprobe nvidia)",
    15: "reset the GPU or restart the machine",
    18: "the driver was updated: restart the machine",
}

GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
"""Device files that every job on a GPU needs."""

_CAPABILITIES = Path("/proc/driver/nvidia/capabilities")
# What goes wrong in a binding or a driver, besides NVML's own errors.
_UNREADABLE = (UnicodeDecodeError, AttributeError, TypeError, ValueError, OSError)


@dataclass(frozen=True)
class Device:
    """One device that can be given to a job.

    `index` is NVML's; `node` is the device file, whose number (the minor) may differ from it.
    `memory_bytes` is the device's own memory, for a CPU the machine's. `cores` is 0 for a GPU.
    `bus` is the PCI address as the kernel writes it; `caps` are the device files that open a MIG
    instance.
    """

    kind: str  # "cuda" or "cpu"
    index: int
    name: str
    uuid: str
    memory_bytes: int
    driver: str = ""
    node: str = ""
    cores: int = 0
    bus: str = ""
    caps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """The usable GPUs, and why others are not: one line each, in NVML's words."""

    devices: tuple[Device, ...]
    faults: tuple[str, ...] = ()


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
    return list(survey(nvml).devices)


def survey(nvml: Any | None = None) -> Survey:
    """Looks at all GPUs. A machine without NVIDIA's binding or library has none and no fault."""
    library = _binding() if nvml is None else nvml
    if library is None:
        return Survey(())
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        if getattr(error, "value", None) == _LIBRARY_NOT_FOUND:
            return Survey(())
        return Survey((), (f"NVML does not start: {_with_help(error)}",))
    try:
        driver = _read(library, lambda: _text(library.nvmlSystemGetDriverVersion())) or ""
        try:
            count = int(library.nvmlDeviceGetCount())
        except library.NVMLError as error:
            return Survey((), (f"NVML does not count the GPUs: {_with_help(error)}",))
        found: list[Device] = []
        faults: list[str] = []
        for index in range(count):
            try:
                found += _describe(library, index, driver)
            except _UNREADABLE + (library.NVMLError,) as error:
                faults.append(f"GPU {index}: {_with_help(error)}")
        return Survey(tuple(found), tuple(faults))
    finally:
        _read(library, library.nvmlShutdown)


def missing_nodes(device: Device, exists: Callable[[str], bool] = os.path.exists) -> list[str]:
    """The device files that a job on this GPU needs and that are not there."""
    if device.kind != "cuda":
        return []
    return [node for node in (device.node, *device.caps, *GPU_NODES) if not exists(node)]


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


def _describe(library: Any, index: int, driver: str) -> list[Device]:
    """One GPU, or its MIG instances. Raises NVMLError where it does not answer what jobs need."""
    handle = library.nvmlDeviceGetHandleByIndex(index)
    minor = int(library.nvmlDeviceGetMinorNumber(handle))
    bus = _read(library, lambda: _bus(_text(library.nvmlDeviceGetPciInfo(handle).busId)))
    whole = Device(
        kind="cuda",
        index=index,
        name=_name(library, handle),
        uuid=_text(library.nvmlDeviceGetUUID(handle)),
        memory_bytes=int(library.nvmlDeviceGetMemoryInfo(handle).total),
        driver=driver,
        node=f"/dev/nvidia{minor}",
        bus=bus or "",
    )
    mode = _read(library, lambda: library.nvmlDeviceGetMigMode(handle))
    return _instances(library, handle, whole, minor) if mode and mode[0] else [whole]


def _instances(library: Any, handle: Any, whole: Device, minor: int) -> list[Device]:
    """The MIG instances of a GPU."""
    found = []
    for number in range(int(library.nvmlDeviceGetMaxMigDeviceCount(handle))):
        instance = _read(
            library, partial(library.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
        )
        if instance is None:
            continue  # there is room for more instances than were made
        gpu = int(library.nvmlDeviceGetGpuInstanceId(instance))
        compute = int(library.nvmlDeviceGetComputeInstanceId(instance))
        found.append(
            replace(
                whole,
                name=_name(library, instance),
                uuid=_text(library.nvmlDeviceGetUUID(instance)),
                memory_bytes=int(library.nvmlDeviceGetMemoryInfo(instance).total),
                caps=(
                    _cap(f"gpu{minor}/mig/gi{gpu}/access"),
                    _cap(f"gpu{minor}/mig/gi{gpu}/ci{compute}/access"),
                ),
            )
        )
    return found


def _with_help(error: Exception) -> str:
    """NVML's own words, and what to do."""
    help_ = _HELP.get(getattr(error, "value", 0))
    return f"{error}; {help_}" if help_ else str(error)


def _cap(place: str) -> str:
    """The device file that the driver names for a capability. Raises OSError, ValueError."""
    for line in (_CAPABILITIES / place).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "DeviceFileMinor":
            return f"/dev/nvidia-caps/nvidia-cap{int(value)}"
    raise ValueError(f"the driver names no device file for {place}")


def _name(library: Any, handle: Any) -> str:
    """What NVML calls a device; some drivers answer with bytes that are not text."""
    try:
        return _text(library.nvmlDeviceGetName(handle))
    except UnicodeDecodeError:
        return "NVIDIA GPU (NVML gives no readable name)"


def _bus(address: str) -> str:
    """NVML writes eight digits of the domain, the kernel four."""
    domain, _, rest = address.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"


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
    """One answer of NVML, or None where it has none, or none that can be read."""
    try:
        return ask()
    except _UNREADABLE + (library.NVMLError,):
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
