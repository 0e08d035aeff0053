# SPDX-License-Identifier: Apache-2.0
"""The device inventory against a stand-in for NVML, and the real one where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provider_agent import devices
from provider_agent.core.fleet import Fleet


class NVMLError(Exception):
    """As in pynvml, the base of all its errors; `value` is the number of nvml.h."""

    value = 999


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


# ---------------------------------------------------------------------- why there are not more


class Told(NVMLError):
    """An error with a number and NVML's own words."""

    def __init__(self, value: int, words: str) -> None:
        super().__init__(words)
        self.value = value


class Answers(StandIn):
    """NVML in which some calls raise a given error, for all GPUs or one."""

    def __init__(self, call: str, error: Exception, index: int | None = None) -> None:
        super().__init__()
        self._call, self._error, self._index = call, error, index

    def _answer(self, name: str, index: int, value: Any) -> Any:
        if name == self._call and self._index in (None, index):
            raise self._error
        return value


@pytest.mark.parametrize(
    ("call", "number", "words", "what_to_do"),
    [
        ("nvmlInit", 18, "Driver/library version mismatch", "restart the machine"),
        ("nvmlInit", 4, "Insufficient Permissions", "access to /dev/nvidia"),
        ("nvmlInit", 9, "Driver Not Loaded", "load the driver"),
        ("nvmlDeviceGetCount", 999, "Unknown Error", ""),
        ("nvmlDeviceGetHandleByIndex", 15, "GPU is lost", "reset the GPU"),
        ("nvmlDeviceGetMinorNumber", 3, "Not Supported", "WSL"),
    ],
)
def test_survey__no_gpu_usable__in_the_words_of_the_library(
    call: str, number: int, words: str, what_to_do: str
) -> None:
    found = devices.survey(Answers(call, Told(number, words)))
    assert found.devices == ()
    assert found.faults and all(words in line and what_to_do in line for line in found.faults)


def test_survey__no_driver_at_all__not_a_fault() -> None:
    missing = Told(12, "NVML Shared Library Not Found")
    assert devices.survey(Answers("nvmlInit", missing)) == devices.Survey(())


def test_survey__one_is_lost__the_other_goes_on() -> None:
    error = Told(15, "GPU is lost")
    found = devices.survey(Answers("nvmlDeviceGetHandleByIndex", error, index=0))
    assert [device.uuid for device in found.devices] == ["GPU-1"]
    assert len(found.faults) == 1 and found.faults[0].startswith("GPU 0: GPU is lost")


def test_survey__name_that_is_not_text__still_a_device() -> None:
    error = UnicodeDecodeError("utf-8", b"\xf8\x01", 0, 1, "invalid start byte")
    found = devices.survey(Answers("nvmlDeviceGetName", error))
    assert len(found.devices) == 2 and found.faults == ()
    assert all("no readable name" in device.name for device in found.devices)


def test_survey__binding_that_breaks__said_and_survived() -> None:
    found = devices.survey(Answers("nvmlDeviceGetUUID", AttributeError("nvmlDeviceGetUUID"), 1))
    assert [device.uuid for device in found.devices] == ["GPU-0"]
    assert found.faults == ("GPU 1: nvmlDeviceGetUUID",)


class Divided(StandIn):
    """One GPU in MIG mode with two instances, and room for seven."""

    def __init__(self) -> None:
        super().__init__(count=1)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def instance(handle: int, number: int) -> str:
            if number > 1:
                raise NVMLError("Not Found")
            return f"instance {number}"

        special: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetMigMode": lambda handle: (1, 1),
            "nvmlDeviceGetMaxMigDeviceCount": lambda handle: 7,
            "nvmlDeviceGetMigDeviceHandleByIndex": instance,
            "nvmlDeviceGetGpuInstanceId": lambda handle: 3 + int(handle[-1]),
            "nvmlDeviceGetComputeInstanceId": lambda handle: 0,
            "nvmlDeviceGetName": lambda handle: f"H100 MIG ({handle})",
            "nvmlDeviceGetUUID": lambda handle: f"MIG-{handle}",
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=10 << 30),
            "nvmlDeviceGetPciInfo": lambda handle: SimpleNamespace(busId="00000000:65:00.0"),
        }
        return special[name] if name in special else super().__getattr__(name)


def test_survey__divided_gpu__its_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, place in enumerate(("gi3", "gi3/ci0", "gi4", "gi4/ci0")):
        access = tmp_path / "gpu7" / "mig" / place / "access"
        access.parent.mkdir(parents=True, exist_ok=True)
        access.write_text(f"DeviceFileMinor: {20 + number}\nDeviceFileMode: 292\n")
    monkeypatch.setattr(devices, "_CAPABILITIES", tmp_path)
    first, second = devices.survey(Divided()).devices
    assert (first.uuid, second.uuid) == ("MIG-instance 0", "MIG-instance 1")
    assert first.node == second.node == "/dev/nvidia7" and first.bus == "0000:65:00.0"
    assert first.caps == ("/dev/nvidia-caps/nvidia-cap20", "/dev/nvidia-caps/nvidia-cap21")
    assert second.caps == ("/dev/nvidia-caps/nvidia-cap22", "/dev/nvidia-caps/nvidia-cap23")
    assert second.memory_bytes == 10 << 30


def test_survey__divided_gpu_without_capabilities__said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_CAPABILITIES", tmp_path)
    found = devices.survey(Divided())
    assert found.devices == () and found.faults[0].startswith("GPU 0: ")


# ---------------------------------------------------------------------- as they are now


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10  # more than a fleet waits between two looks
        return self.now


def gpu(number: int) -> devices.Device:
    return devices.Device("cuda", number, "GPU", f"GPU-{number}", 1, node=f"/dev/nvidia{number}")


def usable(fleet: Fleet) -> tuple[devices.Device, ...]:
    """Read again: the last look may have changed it."""
    return fleet.usable


def test_fleet__one_is_lost_and_comes_back__the_other_goes_on() -> None:
    said = [devices.Survey((gpu(0), gpu(1)))]
    fleet = Fleet(2, lambda: said[-1], exists=lambda path: True, clock=Clock())
    assert usable(fleet) == (gpu(0), gpu(1)) and fleet.check().ok
    said.append(devices.Survey((gpu(1),), ("GPU 0: GPU is lost",)))
    fleet.look()
    assert usable(fleet) == (gpu(1),)
    check = fleet.check()
    assert not check.ok and "1 of 2 GPUs" in check.detail and "GPU is lost" in check.detail
    said.append(said[0])
    fleet.look()
    assert usable(fleet) == (gpu(0), gpu(1)) and fleet.check().ok


def test_fleet__gone_without_a_word__said() -> None:
    said = [devices.Survey((gpu(0), gpu(1)))]
    fleet = Fleet(2, lambda: said[-1], exists=lambda path: True, clock=Clock())
    said.append(devices.Survey((gpu(0),)))
    fleet.look()
    assert "GPU-1 is gone" in fleet.check().detail


@pytest.mark.parametrize("missing", ["/dev/nvidia-uvm", "/dev/nvidiactl", "/dev/nvidia1"])
def test_fleet__device_file_missing__said_and_not_offered(missing: str) -> None:
    fleet = Fleet(
        2,
        lambda: devices.Survey((gpu(0), gpu(1))),
        exists=lambda path: path != missing,
        clock=Clock(),
    )
    assert usable(fleet) == ((gpu(0),) if missing == "/dev/nvidia1" else ())
    assert f"{missing} is missing" in fleet.check().detail


def test_fleet__failed_a_probe__off_until_it_passes_one() -> None:
    clock = Clock()
    fleet = Fleet(2, lambda: devices.Survey((gpu(0), gpu(1))), lambda path: True, clock)
    fleet.suspect(["GPU-0"], "cuInit: CUDA_ERROR_UNKNOWN (999)")
    assert usable(fleet) == (gpu(1),) and "CUDA_ERROR_UNKNOWN" in fleet.check().detail
    assert fleet.to_probe() == ()
    clock.now += 1000
    assert fleet.to_probe() == (gpu(0),)
    fleet.probed(gpu(0), "still broken")
    assert fleet.to_probe() == () and usable(fleet) == (gpu(1),)
    clock.now += 1000
    fleet.probed(gpu(0), "")
    assert usable(fleet) == (gpu(0), gpu(1)) and fleet.check().ok


class Kept(dict[str, str]):
    """What outlives an agent."""

    def meta(self, key: str) -> str | None:
        return self.get(key)

    def set_meta(self, key: str, value: str) -> None:
        self[key] = value


def test_fleet__agent_starts_again__suspects_stay_off_and_are_tried_at_once() -> None:
    kept, clock = Kept(), Clock()

    def start(*there: devices.Device) -> Fleet:
        return Fleet(2, lambda: devices.Survey(there), lambda path: True, clock, kept)

    start(gpu(0), gpu(1)).suspect(["GPU-0"], "cuInit: CUDA_ERROR_UNKNOWN (999)")
    fleet = start(gpu(0), gpu(1))
    assert usable(fleet) == (gpu(1),) and "CUDA_ERROR_UNKNOWN" in fleet.check().detail
    assert fleet.to_probe() == (gpu(0),)
    fleet.probed(gpu(0), "still broken")
    assert start(gpu(1)).faults == (), "not a word of a GPU that was taken out"
    fleet = start(gpu(0), gpu(1))
    assert usable(fleet) == (gpu(1),), "and it has to pass when it is put in again"
    fleet.probed(gpu(0), "")
    assert usable(start(gpu(0), gpu(1))) == (gpu(0), gpu(1))


@pytest.mark.parametrize("said", ["", "{", "[]", "7", "null", '"x"'])
def test_fleet__what_was_kept_cannot_be_read__all_are_offered(said: str) -> None:
    kept = Kept({"devices.suspects": said})
    fleet = Fleet(1, lambda: devices.Survey((gpu(0),)), lambda path: True, Clock(), kept)
    assert usable(fleet) == (gpu(0),)


def test_fleet__what_a_run_holds__given_to_no_other() -> None:
    fleet = Fleet(2, lambda: devices.Survey((gpu(0), gpu(1))), lambda path: True, Clock())
    assert fleet.free([gpu(0)]) == (gpu(1),)
    assert fleet.free([gpu(0), gpu(1)]) == ()


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
