# SPDX-License-Identifier: Apache-2.0
"""Leases with GPUs, as NVML would say that they are there: none is promised twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent import devices
from provider_agent.devices import Device, Survey
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import Gpu, LeaseSpec
from tests.agent.leases.documents import service, spec
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.lease_rig import LeaseRig, rig


@pytest.fixture
def gpus(market: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LeaseRig]:
    """A machine with two GPUs, as NVML would say it."""
    found = Survey(
        tuple(Device("cuda", n, "NVIDIA H100 PCIe", f"GPU-{n}", 80 << 30) for n in range(2))
    )
    monkeypatch.setattr(devices, "survey", lambda: found)
    monkeypatch.setattr(devices, "missing_nodes", lambda device, exists: [])
    with rig(market, tmp_path, gpu_prices={"h100": "2"}) as made:
        made.cycle(2)
        yield made


def of_gpus(count: int) -> LeaseSpec:
    return spec(service(gpus=count, gpu_sorts=(Gpu("nvidia", "h100"),)))


def test_gpus__each_lease_has_its_own(gpus: LeaseRig) -> None:
    first, second = gpus.active(of_gpus(1)), gpus.active(of_gpus(1), term=1_800)
    given = [
        device.uuid
        for terms in (first, second)
        for service in gpus.runner.leases[terms.lease_id().hex()].services
        for device in service.devices
    ]
    assert sorted(given) == ["GPU-0", "GPU-1"]
    with pytest.raises(Refused) as caught:
        gpus.quote(of_gpus(1), term=2_000)
    assert caught.value.code is Code.DEVICES_TAKEN
    gpus.cycle()
    place = gpus.module._views.place(second.lease_id())
    assert place is not None and place.engines in (("cuda:0",), ("cuda:1",))


def test_gpus__database_lost__none_is_promised_twice(gpus: LeaseRig) -> None:
    terms = gpus.active(of_gpus(2))
    gpus.restart(lost=True)
    gpus.upload(of_gpus(1))
    for _ in range(4):
        gpus.cycle()
        with pytest.raises(Refused):
            gpus.quote(of_gpus(1))
    row = gpus.row(terms)
    assert row is not None and sorted(row.devices["web"]) == ["GPU-0", "GPU-1"]


def test_gpu_that_is_gone__its_lease_is_not_put_on_another(gpus: LeaseRig) -> None:
    gpus.hire(gpus.quote(of_gpus(1)))
    held = gpus.module._records.quotes(gpus.operator.address, "live")[0].devices["web"]
    left = tuple(one for one in devices.survey().devices if one.uuid not in held)
    gpus.context.fleet._survey = lambda: Survey(left, ("GPU: lost",))
    gpus.context.fleet.look(promises=True)
    gpus.cycle(4)
    report = gpus.module._views.report(gpus.terms.lease_id())
    assert report is not None and report.blocked_by is Code.RUNNER_FAILED
    assert gpus.runner.starts == []
