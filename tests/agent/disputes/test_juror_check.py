# SPDX-License-Identifier: Apache-2.0
"""What `check` says of wanted seats: how many, what they lock, and what the machine lacks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider_agent.core.trial import Finding, Mark, finding
from provider_agent.modules.disputes import checks
from provider_agent.modules.disputes.checks import DisputesChecks
from provider_agent.modules.disputes.module import DisputesModule
from provider_agent.settings import validate
from teraproof.protocol.capability import bounds
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.agent.disputes.court import PLACE, PlainCourt
from tests.agent.duty_parts import JOBS, STAKING

TEXT = "batch|plain|cpu"
CHAIN = {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "staking": STAKING, "jobs": JOBS}


def trial(court: str = PLACE, seats: int = 2, **runner: Any) -> Any:
    most = bounds(0)
    machine = {
        "runtimes": {"plain": str(Path("/opt/plain"))},
        "cpus": most.cpus,
        "memory_mb": most.memory_mb,
        "disk_mb": most.disk_mb,
        "input_mb": most.input_mb,
        **runner,
    }
    document = {
        "chain": CHAIN,
        "operator": {},
        "runner": machine,
        "disputes": {"seats": {TEXT: seats}},
    }
    return SimpleNamespace(
        settings=validate(document),
        contract=lambda *_: SimpleNamespace(court=lambda _: court),
        reachable=lambda: None,
    )


@pytest.fixture(autouse=True)
def plain_court(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DisputesContract", lambda *_: PlainCourt())


def looked(made: Any) -> Finding:
    ((name, check),) = DisputesChecks(cast(Any, made)).all()
    return finding(name, check)


def test_fit__seats_and_stake() -> None:
    assert looked(trial()) == Finding("juror", Mark.OK, "2 seats, 2 TPF of stake")


def test_less_than_a_jury_may_need__a_warning_that_has_the_seats_too() -> None:
    found = looked(trial(cpus=1))
    assert found.mark is Mark.WARN and "cpus 1 of" in found.line
    assert "2 seats, 2 TPF of stake" in found.line


def test_runtime_missing_or_no_court__fails() -> None:
    assert looked(trial(runtimes={})).mark is Mark.FAIL
    assert looked(trial(court=ZERO_ADDRESS)).mark is Mark.FAIL


@pytest.mark.parametrize("wanted, names", [({}, []), ({TEXT: 1}, ["juror"])])
def test_named_where_seats_are_wanted(wanted: dict[str, int], names: list[str]) -> None:
    document = {"chain": CHAIN, "operator": {}, "disputes": {"seats": wanted}}
    made = cast(Any, SimpleNamespace(settings=validate(document)))
    assert [name for name, _ in DisputesModule.checks(made)] == names
