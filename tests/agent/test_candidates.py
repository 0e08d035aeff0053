# SPDX-License-Identifier: Apache-2.0
"""A flood of junk orders: a cycle's work is bounded, and an honest order is still seen."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.modules.jobs.candidates import Candidates
from tests.agent.duty_rig import Rig

MOST = 16  # looks a cycle


class Market:
    """Open jobs by id with what they pay, oldest first, and a clock that looks take time of."""

    def __init__(self, look_seconds: float = 0.0) -> None:
        self.worth: dict[bytes, int] = {}
        self.now = 0.0
        self.asked = 0
        self.look_seconds = look_seconds
        self.candidates = Candidates(self._worth, lambda: self.now)

    def _worth(self, job: bytes) -> int:
        self.asked += 1
        return self.worth[job]

    def post(self, number: int, worth: int = 1) -> list[bytes]:
        made = [len(self.worth).to_bytes(4, "big") + bytes([n % 256]) for n in range(number)]
        for n, job in enumerate(made):
            self.worth[job + n.to_bytes(4, "big")] = worth
        return list(self.worth)[-number:]

    def cycle(self) -> list[bytes]:
        looked = []
        for job in self.candidates.choose(list(self.worth)):
            self.now += self.look_seconds
            looked.append(job)
        return looked


@given(st.lists(st.integers(1, 100), min_size=1, max_size=MOST))
def test_few__all_of_them_each_cycle__best_paid_first(worths: list[int]) -> None:
    market = Market()
    for worth in worths:
        market.post(1, worth)
    for _ in range(3):
        looked = market.cycle()
        assert sorted(looked) == sorted(market.worth)
        paid = [market.worth[job] for job in looked]
        assert paid == sorted(paid, reverse=True)


@pytest.mark.parametrize("junk", [1_000, 10_000])
def test_flood__work_is_bounded_and_who_pays_is_seen_at_once(junk: int) -> None:
    market = Market()
    market.post(junk)
    for _ in range(junk // 500 + 1):
        before = market.asked
        assert len(market.cycle()) <= MOST
        assert market.asked - before <= 500
    (honest,) = market.post(1, worth=10**6)
    assert honest in market.cycle()


def test_flood_with_money__the_others_have_their_turn() -> None:
    """Twenty orders that lock a fortune and suit nobody do not shut out one that pays little."""
    market = Market()
    market.post(20, worth=10**12)
    market.post(200)
    market.cycle()
    (honest,) = market.post(1, worth=10**6)
    assert any(honest in market.cycle() for _ in range(2))
    seen = {job for _ in range(60) for job in market.cycle()}
    assert seen == set(market.worth)


def test_looks_take_long__the_cycle_ends_and_the_next_goes_on() -> None:
    market = Market(look_seconds=0.3)
    market.post(40)
    seen = set()
    for _ in range(60):
        began = market.now
        seen |= set(market.cycle())
        assert market.now - began <= 0.5 + 0.3 + 1e-9
    assert seen == set(market.worth)


def test_ended_jobs__are_forgotten() -> None:
    market = Market()
    market.post(100)
    market.cycle()
    market.worth = dict(islice(market.worth.items(), 3))
    assert sorted(market.cycle()) == sorted(market.worth)
    assert len(market.candidates._jobs) == 3


def test_flood_of_junk_with_specifications__an_honest_order_is_taken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each junk order has a large specification of its own, which is here."""
    for number in range(200):
        spec = rig.spec(name=f"junk{number}", env={f"V{n}": "x" * 100 for n in range(50)})
        rig.store.put_spec(spec.digest(), spec.canonical(), "0x" + "77" * 20)
        rig.post(spec, start_price=1, max_price=1)
    parsed = 0
    parse = rig.book._parsed.spec

    def count(body: bytes, digest: bytes) -> object:
        nonlocal parsed
        parsed += 1
        return parse(body, digest)

    monkeypatch.setattr(rig.book._parsed, "spec", count)
    for _ in range(3):
        before = parsed
        rig.cycle()
        assert parsed - before <= 2 * MOST
    spec = rig.spec()
    rig.upload(spec)
    rig.post(spec)
    rig.cycle()
    assert rig.intents() == [("accept", "planned")]


def test_specifications_in_memory__bounded_by_their_bytes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.book._parsed._most = 20_000
    for number in range(50):
        spec = rig.spec(name=f"n{number}", env={f"V{n}": "x" * 100 for n in range(20)})
        rig.store.put_spec(spec.digest(), spec.canonical(), "0x" + "77" * 20)
        assert rig.book.spec_named(spec.digest()) == spec
        assert rig.book.spec_named(spec.digest()) == spec
        held = sum(size for size, _ in rig.book._parsed._kept.values())
        assert held == rig.book._parsed._bytes <= 20_000
