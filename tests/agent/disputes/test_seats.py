# SPDX-License-Identifier: Apache-2.0
"""Seats follow the settings: taken, renewed while they last, given up; never beyond the stake."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider_agent.core.attempts import Attempts
from provider_agent.core.standing import Provider
from provider_agent.modules.disputes.seats import Seats, held
from provider_agent.modules.disputes.settings import DisputesSettings
from provider_agent.settings import validate
from provider_agent.store import Intent, IntentState
from provider_agent.tx.sender import Sender
from teraproof.contracts.disputes import ENLIST, Enlisted
from teraproof.protocol.capability import Capability
from teraproof.rpc.types import BlockRef, Log
from tests.agent.disputes.court import LONGEST, PERIOD, PLACE, SEAT, TERM, PlainCourt, Seat
from tests.agent.duty_parts import JOBS, OTHER, OWNER, STAKING, TENANT, WritingSender
from tests.agent.stores import fresh_store

TEXT = "batch|python-ml|cpu"
KEY = Capability.parse(TEXT).number().to_bytes(32, "big")
PRESENT = 1_000
NOW = PRESENT * PERIOD + 5
LAST = PRESENT + (TERM - LONGEST) // PERIOD - 1
LOG = Log(PLACE, (), b"", 1, bytes(32), bytes(32), 0)


class Rig:
    def __init__(self, folder: Path, wanted: int, *members: Seat) -> None:
        self.store = fresh_store(folder / "agent.sqlite", clock=lambda: float(NOW))
        self.court = PlainCourt()
        self.court.members = list(members)
        self.locked, self.expires = 0, NOW + 1
        self.stake = 100 * SEAT
        lock = lambda *_: SimpleNamespace(amount=self.locked, expires_at=self.expires)  # noqa: E731
        self.staking = cast(Any, SimpleNamespace(lock_of=lock))
        self.start(wanted)

    def start(self, wanted: int) -> None:
        """Start the agent (again), with other settings or the same."""
        sender = cast(Sender, WritingSender(self.store))
        attempts = Attempts(self.store, sender, "disputes", PLACE, clock=lambda: float(NOW))
        self.seats = Seats(self.court, self.staking, attempts, self.store, {TEXT: wanted})

    def cycle(self, now: int = NOW, per_order: int = 10**30) -> list[Intent]:
        provider = Provider(OWNER, True, 10**30, self.stake, per_order, bytes(32))
        self.seats._looked_at = None
        self.seats.reconcile(BlockRef(1, bytes(32), now), provider)
        return self.store.intents_in(*IntentState)


def actions(found: list[Intent]) -> list[str]:
    return [intent.key.action.partition("-")[0] for intent in found]


def test_no_seats_yet__enlists(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 3)
    (intent,) = rig.cycle()
    assert ENLIST.decode_input(intent.data) == (KEY, 3)
    assert rig.cycle() == [intent], "once"


@pytest.mark.parametrize("stake, per_order", [(3 * SEAT - 1, 10**30), (10**30, 3 * SEAT - 1)])
def test_more_than_the_owner_allows__nothing_sent(
    tmp_path: Path, stake: int, per_order: int, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, 3)
    rig.stake = stake
    assert rig.cycle(per_order=per_order) == []
    (line,) = [record.getMessage() for record in caplog.records]
    assert "3 TPF" in line and "wei" not in line


def test_enough_seats_and_a_long_term__nothing_to_do(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 3, Seat(OWNER, 3, LAST))
    assert rig.cycle() == [] and rig.seats.held == {KEY: 3}


@pytest.mark.parametrize("seats, last", [(2, LAST), (3, PRESENT + 2), (3, PRESENT)])
def test_fewer_or_near_the_end__enlists_again_with_what_is_locked(
    tmp_path: Path, seats: int, last: int
) -> None:
    rig = Rig(tmp_path, 3, Seat(OWNER, seats, last))
    rig.locked = seats * SEAT
    rig.stake = (3 - seats) * SEAT  # the rest is in the lock that ends
    (intent,) = rig.cycle()
    assert ENLIST.decode_input(intent.data) == (KEY, 3)


def test_term_is_over__evicted_first__and_back_two_periods_later(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 3, Seat(OWNER, 3, PRESENT - 1))
    assert actions(rig.cycle()) == ["evict"]
    rig.court.members = [Seat(OWNER, 0, PRESENT - 1, went=PRESENT)]
    assert actions(rig.cycle(NOW + PERIOD)) == ["evict"]
    assert actions(rig.cycle(NOW + 2 * PERIOD)) == ["evict", "enlist"]


def test_zero__resigns_and_leaves_when_no_jury_can_hold_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 0, Seat(OWNER, 3, LAST))
    rig.locked = 3 * SEAT
    assert actions(rig.cycle()) == ["resign"]
    rig.court.members = [Seat(OWNER, 0, LAST, went=PRESENT)]
    until = (PRESENT + 1) * PERIOD + LONGEST
    assert actions(rig.cycle(until)) == ["resign"]
    assert actions(rig.cycle(until + 1)) == ["resign", "leave"]


LATER = NOW + 3 * PERIOD  # whoever has lost all seats may come back


def resigned(folder: Path, wanted: int = 3) -> Rig:
    """An agent that held seats, and a resignation that it did not send."""
    rig = Rig(folder, wanted, Seat(OWNER, 3, LAST))
    rig.locked = 3 * SEAT
    assert rig.cycle() == []
    rig.court.members = [Seat(OWNER, 0, LAST, went=PRESENT)]
    return rig


@pytest.mark.parametrize("locked", [3 * SEAT, SEAT // 4, 0], ids=["locked", "fined since", "left"])
@pytest.mark.parametrize("again", [False, True], ids=["the same run", "a later start"])
def test_resigned_by_hand__stays_away_and_says_what_to_do(
    tmp_path: Path, again: bool, locked: int, caplog: pytest.LogCaptureFixture
) -> None:
    rig = resigned(tmp_path)
    assert rig.cycle() == []
    rig.locked = locked
    if again:
        rig.start(3)
    for periods in (1, 2, 3, 50):
        found = actions(rig.cycle(NOW + periods * PERIOD))
        assert "enlist" not in found
    assert ("leave" in found) is (locked > 0), "the stake is set free, as it is by the settings"
    lines = {record.getMessage() for record in caplog.records if record.levelname == "WARNING"}
    (line,) = lines
    assert TEXT in line and "by hand" in line and "disputes.seats" in line


@pytest.mark.parametrize("locked", [3 * SEAT, 0], ids=["locked", "left"])
def test_resigned_by_hand__the_database_is_lost__stays_away(tmp_path: Path, locked: int) -> None:
    rig = Rig(tmp_path, 3, Seat(OWNER, 0, LAST, went=PRESENT))
    rig.locked = locked
    assert rig.cycle(LATER) == []


@pytest.mark.parametrize("wanted", [1, 3])
def test_resigned_by_hand__zero_once__takes_seats_again(tmp_path: Path, wanted: int) -> None:
    rig = resigned(tmp_path)
    assert rig.cycle() == []
    rig.start(0)
    assert rig.cycle(NOW + PERIOD) == []
    rig.start(wanted)
    (intent,) = rig.cycle(LATER)
    assert ENLIST.decode_input(intent.data) == (KEY, wanted)


def test_resigned_by_hand_twice__zero_counts_for_the_first_time_alone(tmp_path: Path) -> None:
    rig = resigned(tmp_path)
    rig.start(0)
    rig.cycle()
    rig.start(3)
    assert actions(rig.cycle(LATER)) == ["enlist"]
    rig.court.members = [Seat(OWNER, 0, LAST, went=PRESENT + 4)]
    assert actions(rig.cycle(NOW + 9 * PERIOD)) == ["enlist"], "no second one"


def test_resigned_by_the_settings__a_restart_before_it_is_mined__back_all_the_same(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, 0, Seat(OWNER, 3, LAST))
    assert actions(rig.cycle()) == ["resign"]
    rig.start(3)
    rig.court.members = [Seat(OWNER, 0, LAST, went=PRESENT + 1)]
    rig.locked = 3 * SEAT
    assert actions(rig.cycle(LATER)) == ["resign", "enlist"]


def test_fined_to_nothing__comes_back(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 1, Seat(OWNER, 0, LAST, went=PRESENT))
    rig.locked = SEAT // 2 - 1
    assert actions(rig.cycle(LATER)) == ["enlist"]


@pytest.mark.parametrize("seats", [0, 3])
def test_held__kept_for_status(tmp_path: Path, seats: int) -> None:
    rig = Rig(tmp_path, 3, Seat(OWNER, seats, LAST, went=0 if seats else PRESENT))
    rig.cycle()
    assert held(rig.store) == ({TEXT: seats} if seats else {})


def test_zero_and_never_enlisted__nothing(tmp_path: Path) -> None:
    assert Rig(tmp_path, 0).cycle() == []


def test_seats_of_others_whose_term_is_over__evicted_a_few_at_a_time(tmp_path: Path) -> None:
    others = [f"0x{n:040x}" for n in range(1, 8)]
    rig = Rig(tmp_path, 3, Seat(OWNER, 3, LAST), *(Seat(one, 2, 5) for one in others))
    for one in others:
        rig.seats.news(Enlisted(LOG, one, KEY, 1, 2, 0, 5))
    rig.seats.news(Enlisted(LOG, OWNER, KEY, 1, 3, 0, 5))
    found = rig.cycle()
    assert actions(found) == ["evict"] * 4
    assert OWNER not in {intent.key.object_id.partition("-")[2] for intent in found}


def test_seats_of_others_that_last__left_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 3, Seat(OWNER, 3, LAST), Seat(OTHER, 2, LAST), Seat(TENANT, 0, 5))
    rig.seats.news(Enlisted(LOG, OTHER, KEY, 2, 2, 0, 5))  # it was renewed since
    rig.seats.news(Enlisted(LOG, TENANT, KEY, 3, 2, 0, 5))  # it was evicted since
    assert rig.cycle() == []


def test_member__read_once_until_there_is_news(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 3)
    block = BlockRef(1, bytes(32), NOW)
    assert rig.seats.leaf(KEY, OWNER, block) == 0
    rig.court.members = [Seat(OWNER, 3, LAST)]
    assert rig.seats.leaf(KEY, OWNER, block) == 0
    rig.seats.news(Enlisted(LOG, OWNER, KEY, 1, 3, 0, LAST))
    assert rig.seats.leaf(KEY, OWNER, block) == 1


# ------------------------------------------------------------------------- settings


def settings(**disputes: Any) -> DisputesSettings:
    chain = {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "staking": STAKING, "jobs": JOBS}
    made = validate({"chain": chain, "operator": {}, "disputes": disputes})
    return made.section(DisputesSettings)


def test_settings__nobody_is_a_juror_by_default() -> None:
    assert settings().seats == {}
    assert settings(seats={TEXT: 2}).seats == {TEXT: 2}
    assert settings(seats='{"batch|python-ml|cpu": 2}').seats == {TEXT: 2}, "from the environment"


@pytest.mark.parametrize(
    "seats", [{"batch|python-ml": 1}, {"dance|python-ml|cpu": 1}, {TEXT: -1}, {TEXT: "many"}]
)
def test_settings__unfit__refused(seats: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"capability|kind|greater|integer"):
        settings(seats=seats)
