# SPDX-License-Identifier: Apache-2.0
"""A flood of junk orders: a cycle's work is bounded, and an honest order is still seen."""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.modules.jobs.candidates import Candidates
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec
from tests.agent.duty_parts import OTHER, TENANT
from tests.agent.duty_rig import Rig

MOST = 16  # looks a cycle


class Market:
    """Open jobs by id with what they pay, and a clock that looks take time of."""

    def __init__(self, look_seconds: float = 0.0) -> None:
        self.worth: dict[bytes, int] = {}
        self.seen: set[bytes] = set()
        self.now = 0.0
        self.read = 0
        self.look_seconds = look_seconds
        self.candidates = Candidates(self, lambda: self.now)

    def best_paid(self, limit: int) -> list[bytes]:
        return self._some(sorted(self.worth, key=lambda job: -self.worth[job]), limit)

    def unseen(self, limit: int) -> list[bytes]:
        new = sorted(self.worth.keys() - self.seen, key=lambda job: -self.worth[job])
        return self._some(new, limit)

    def after(self, job_id: bytes, limit: int) -> list[bytes]:
        ids = sorted(self.worth)
        later = [job for job in ids if job > job_id]
        return self._some([*later, *(job for job in ids if job <= job_id)], limit)

    def _some(self, jobs: list[bytes], limit: int) -> list[bytes]:
        self.read += min(limit, len(jobs))
        return jobs[:limit]

    def post(self, number: int, worth: int = 1) -> list[bytes]:
        first = len(self.worth)
        made = [hashlib.sha256(b"%d" % (first + n)).digest() for n in range(number)]
        self.worth |= dict.fromkeys(made, worth)
        return made

    def cycle(self) -> list[bytes]:
        looked = []
        for job in self.candidates.choose():
            self.now += self.look_seconds
            looked.append(job)
            self.seen.add(job)
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
    for _ in range(20):
        before = market.read
        assert len(market.cycle()) <= MOST
        assert market.read - before <= 4 * MOST
    assert len(market.candidates._looked) <= MOST
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
    seen = {job for _ in range(100) for job in market.cycle()}
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
    assert len(market.candidates._looked) == 3


def test_flood_of_junk_with_specifications__an_honest_order_is_taken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each junk order has a large specification of its own, which is here."""
    for number in range(200):
        spec = rig.spec(name=f"junk{number}", env={f"V{n}": "x" * 100 for n in range(50)})
        rig.records.put_spec(spec.digest(), spec.canonical(), "0x" + "77" * 20)
        rig.post(spec, start_price=1, max_price=1)
    parsed = 0
    parse = rig.book._parsed.spec

    def count(body: bytes, digest: bytes) -> object:
        nonlocal parsed
        parsed += 1
        return parse(body, digest)

    monkeypatch.setattr(rig.book._parsed, "spec", count)
    for _ in range(40):
        before = parsed
        rig.cycle()
        assert parsed - before <= MOST
    before = parsed
    for _ in range(3):
        rig.cycle()
    assert parsed == before, "each was read once"
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
        rig.records.put_spec(spec.digest(), spec.canonical(), "0x" + "77" * 20)
        assert rig.book.spec_named(spec.digest()) == spec
        assert rig.book.spec_named(spec.digest()) == spec
        held = sum(size for size, _ in rig.book._parsed._kept.values())
        assert held == rig.book._parsed._bytes <= 20_000


def test_store__few_of_many__in_order(rig: Rig) -> None:
    """The best paid, those without a note, and all of them by turns, from the database."""
    pays = {}
    for number in range(30):
        pay = 2 ** (8 * (number % 15))  # of one byte up to many: numbers, not texts
        terms = rig.post(rig.spec(inputs=[], name=str(number)), start_price=0, max_price=pay)
        pays[terms.job_id()] = pay
    rig.chain.words.clear()
    jobs = rig.records
    best = jobs.best_paid(7)
    assert [pays[job] for job in best] == sorted(pays.values(), reverse=True)[:7]
    for job in best:
        jobs.update_job(job, note="seen")
    new = jobs.unseen(5)
    assert [pays[job] for job in new] == sorted(pays.values(), reverse=True)[7:12]
    ids, found, last = sorted(pays), [], b""
    for _ in range(5):
        found += jobs.after(last, 6)
        last = found[-1]
    assert found == ids
    assert jobs.after(ids[-2], 3) == [ids[-1], ids[0], ids[1]]
    jobs.update_job(best[0], status=2)
    assert best[0] not in jobs.best_paid(30) + jobs.after(b"", 30)


def test_verdicts__made_once__again_when_the_settings_change(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    spec = rig.spec(runtime="rust")
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    terms = rig.post(spec)
    rig.cycle()
    assert rig.blocked(terms) is Code.RUNTIME_NOT_OFFERED
    rig.restart()
    rig.cycle()
    details = rig.records.verdict(spec.digest())
    assert details is not None and details.code == "runtime_not_offered"
    rig.duty.close()
    rig.store.close()
    again = Rig(tmp_path, runner={"runtimes": {"rust": tmp_path}, "disk_reserve_mb": 0})
    again.chain.words = rig.chain.words
    again.cycle()
    assert again.blocked(terms) is Code.INPUTS_MISSING
    assert again.records.prune_specs(set(), int(again.now) + 100) == 0, "an open job names it"
    again.records.update_job(terms.job_id(), status=5)
    again.records.prune_specs(set(), int(again.now) + 100)
    assert again.records.verdict(spec.digest()) is None, "it goes with its specification"
    again.duty.close()


def test_dear_orders_whose_inputs_never_come__each_is_looked_at_closely_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They pay best, so each cycle comes to them; what is known of them is not found out again."""
    content = b"never sent"
    digest = hashlib.sha256(content).hexdigest()
    for number in range(12):
        inputs = [{"path": "a", "sha256": digest, "size": len(content)}]
        spec = rig.spec(name=f"junk {number}", inputs=inputs)
        rig.records.put_spec(spec.digest(), spec.canonical(), OTHER)
        rig.post(spec, requester=OTHER, max_price=50 * 10**6, start_price=50 * 10**6)
    looks: list[str] = []
    real = rig.book.missing_inputs

    def missing(requester: str, spec: JobSpec) -> int:
        looks.append(spec.name)
        return real(requester, spec)

    monkeypatch.setattr(rig.book, "missing_inputs", missing)
    for _ in range(5):
        rig.next_block()
        rig.cycle()
    assert sorted(looks) == sorted(f"junk {number}" for number in range(12))
    assert rig.intents() == []


def test_inputs_come__that_order_is_looked_at_next(rig: Rig) -> None:
    """However many others pay more, and would have their turns before it."""
    for number in range(300):
        junk = rig.spec(name=f"junk {number}")
        rig.records.put_spec(junk.digest(), junk.canonical(), OTHER)
        rig.post(junk, requester=OTHER, max_price=50 * 10**6, start_price=50 * 10**6)
    spec = rig.spec(name="honest")
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    terms = rig.post(spec)
    for _ in range(100):
        rig.next_block(1)
        rig.cycle()
    assert rig.blocked(terms) is Code.INPUTS_MISSING
    rig.upload(spec)
    rig.next_block(1)
    rig.cycle()
    assert rig.intents() == [("accept", "planned")]
