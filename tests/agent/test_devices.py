# SPDX-License-Identifier: Apache-2.0
"""The device inventory against a stand-in for NVML, and the real one where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from provider_agent import devices


class NVMLError(Exception):
    """As in pynvml, the base of all its errors."""


class StandIn:
    """NVML with two GPUs; `broken` names calls that fail, all of them or for one GPU's index."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, broken: dict[str, int | None] | None = None, count: int = 2) -> None:
        self.broken = broken or {}
        self.count = count
        self.sessions = 0

    def nvmlInit(self) -> None:
        self._answer("nvmlInit", -1, None)
        self.sessions += 1

    def nvmlShutdown(self) -> None:
        self.sessions -= 1
        self._answer("nvmlShutdown", -1, None)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        handle: int = self._answer("nvmlDeviceGetHandleByUUID", int(uuid[-1]), int(uuid[-1]))
        return handle

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers: dict[str, Callable[[int], Any]] = {
            "nvmlSystemGetDriverVersion": lambda _: b"580.1",
            "nvmlDeviceGetCount": lambda _: self.count,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda _: "Some GPU",
            "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
            "nvmlDeviceGetMinorNumber": lambda index: 7 - index,
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=80 << 30, used=1 << 30),
            "nvmlDeviceGetPowerUsage": lambda _: 300_000,
            "nvmlDeviceGetTotalEnergyConsumption": lambda _: 123_456,
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=95, memory=10),
            "nvmlDeviceGetTemperature": lambda _: 55,
        }
        if name not in answers:
            raise AttributeError(name)
        return lambda index=-1, *_: self._answer(name, index, answers[name](index))

    def _answer(self, name: str, index: int, value: Any) -> Any:
        if name in self.broken and self.broken[name] in (None, index):
            raise NVMLError(name)
        return value


def test_inventory__two_gpus() -> None:
    nvml = StandIn()
    first, second = devices.inventory(nvml)
    assert first == devices.Device(
        "cuda", 0, "Some GPU", "GPU-0", 80 << 30, "580.1", "/dev/nvidia7"
    )
    assert (second.index, second.node) == (1, "/dev/nvidia6")
    assert nvml.sessions == 0


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetUUID"])
def test_inventory__nvml_fails__cpu(call: str) -> None:
    nvml = StandIn({call: None})
    (only,) = devices.inventory(nvml)
    assert only.kind == "cpu"
    assert nvml.sessions == 0


def test_inventory__no_gpu__cpu() -> None:
    (only,) = devices.inventory(StandIn(count=0))
    assert only.kind == "cpu" and only.cores >= 1
    assert only.name and only.memory_bytes > 1 << 26


@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMinorNumber"]
)
def test_inventory__one_gpu_lost__the_other_stays(call: str) -> None:
    (left,) = devices.inventory(StandIn({call: 0}))
    assert left.uuid == "GPU-1"


def test_inventory__driver_version_or_shutdown_fails__still_there() -> None:
    found = devices.inventory(StandIn({"nvmlSystemGetDriverVersion": None, "nvmlShutdown": None}))
    assert [device.driver for device in found] == ["", ""]


def test_inventory__no_binding__cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_binding", lambda: None)
    assert devices.gpus() == []
    assert devices.inventory()[0].kind == "cpu"


def test_sample__all_readings() -> None:
    nvml = StandIn()
    gpu = devices.gpus(nvml)[1]
    assert devices.sample(gpu, nvml) == devices.Sample(300_000, 123_456, 95, 1 << 30, 55)
    assert nvml.sessions == 0


def test_sample__reading_not_offered__none() -> None:
    gpu = devices.gpus(StandIn())[0]
    nvml = StandIn({"nvmlDeviceGetTotalEnergyConsumption": None, "nvmlDeviceGetPowerUsage": None})
    found = devices.sample(gpu, nvml)
    assert (found.energy_mj, found.power_mw, found.utilisation_percent) == (None, None, 95)


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_sample__gpu_lost__nothing(call: str) -> None:
    gpu = devices.gpus(StandIn())[0]
    assert devices.sample(gpu, StandIn({call: None})) == devices.Sample()


def test_sample__cpu__nothing() -> None:
    assert devices.sample(devices.cpu(), StandIn()) == devices.Sample()


@pytest.mark.gpu
def test_real_gpu__inventory_and_readings() -> None:
    found = devices.gpus()
    if not found:
        pytest.skip("this machine has no NVIDIA GPU with a driver")
    for device in found:
        assert device.kind == "cuda" and device.name and device.driver
        assert device.uuid.startswith("GPU-") and device.memory_bytes > 1 << 30
        reading = devices.sample(device)
        assert reading.memory_used_bytes is not None
        assert 0 <= reading.memory_used_bytes <= device.memory_bytes
        if reading.energy_mj is not None:
            later = devices.sample(device).energy_mj
            assert later is not None and later >= reading.energy_mj
