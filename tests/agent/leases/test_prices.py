# SPDX-License-Identifier: Apache-2.0
"""What a lease costs: by the table, or by the owner's program, whose faults decline."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from provider_agent.modules.leases.prices import PriceDesk, table
from provider_agent.modules.leases.settings import LeasesSettings
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_offer import Capacity, LeaseOffer
from teraproof.protocol.leasespec import Gpu
from tests.agent.leases.documents import service, spec

UNIT = 10**6
GPUS = (Gpu("nvidia", "h100", 80 << 30),)


def offer(wanted: LeasesSettings) -> LeaseOffer:
    goods = Capacity(8_000, 1 << 40, 1 << 40, GPUS)
    return LeaseOffer(goods, goods, table(wanted))


def rate(wanted: LeasesSettings, one: Any = None, seconds: int = 600) -> int:
    return PriceDesk(wanted, UNIT).rate(offer(wanted), one or spec(), seconds)


def program(folder: Path, code: str) -> tuple[str, ...]:
    path = folder / "price.py"
    path.write_text("import json, os, sys, time\nasked = json.load(sys.stdin)\n" + code)
    return (sys.executable, str(path))


def test_table__cores_and_memory_by_the_hour__rounded_up() -> None:
    # Half a core at 3.6 per hour, and a sixteenth of a GiB at 1.6: 1.9 per hour.
    wanted = LeasesSettings(core_price=3.6, memory_price=1.6)  # type: ignore[arg-type]
    assert rate(wanted) == 528


def test_table__gpu_by_its_model() -> None:
    wanted = LeasesSettings(gpu_prices={"h100": 3.6})  # type: ignore[dict-item]
    assert rate(wanted, spec(service(gpus=1, gpu_sorts=(Gpu("nvidia", "h100"),)))) == 1_000
    with pytest.raises(Refused) as caught:
        rate(wanted, spec(service(gpus=1, gpu_sorts=(Gpu("nvidia", "b200"),))))
    assert caught.value.code is Code.MACHINE_UNFIT


def test_next_to_nothing__costs_a_unit_per_second() -> None:
    assert rate(LeasesSettings(core_price="0.000000001")) == 1  # type: ignore[arg-type]


def test_program__names_the_price_and_sees_no_secrets(tmp_path: Path) -> None:
    said = tmp_path / "asked.json"
    code = f"open({str(said)!r}, 'w').write(json.dumps(asked))\nprint('7.2')\n"
    wanted = LeasesSettings(core_price=1, price_command=program(tmp_path, code))  # type: ignore[arg-type]
    assert rate(wanted, spec(service(env={"TOKEN": "hunter2"}))) == 2_000
    asked = json.loads(said.read_text())
    assert (asked["seconds"], asked["per_hour"]) == (600, "0.5004")
    assert asked["services"][0]["resources"]["cpu_millis"] == 500
    assert "hunter2" not in said.read_text()


@pytest.mark.parametrize(
    "code",
    [
        "",
        "print('')",
        "print('-5')",
        "print('1e3')",
        "print('free')",
        "print('1' * 100)",
        "print('5'); sys.exit(3)",
        "raise ValueError",
        "time.sleep(60)",
        "os.fork(); time.sleep(60)",
        "print('9' * 12)",
    ],
)
def test_program__anything_else__declines(tmp_path: Path, code: str) -> None:
    wanted = LeasesSettings(price_command=program(tmp_path, code + "\n"), price_command_seconds=2)
    with pytest.raises(Refused) as caught:
        PriceDesk(wanted, 10**24 if "9" in code else UNIT).rate(offer(wanted), spec(), 600)
    assert caught.value.code is Code.PRICE_UNKNOWN


def test_program__that_is_not_there__declines(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        rate(LeasesSettings(price_command=(str(tmp_path / "none"),)))
    assert caught.value.code is Code.PRICE_UNKNOWN


def test_program__is_asked_once_for_the_same(tmp_path: Path) -> None:
    count = tmp_path / "count"
    code = f"open({str(count)!r}, 'a').write('x')\nprint('1')\n"
    wanted = LeasesSettings(price_command=program(tmp_path, code))
    desk = PriceDesk(wanted, UNIT)
    for seconds in (600, 600, 700):
        desk.rate(offer(wanted), spec(), seconds)
    assert count.read_text() == "xx"
