# SPDX-License-Identifier: Apache-2.0
"""Orders cost their posters a little gas: however many one account has, nobody looks through them.

What is counted is how often terms are decoded and specifications read: work for the processor.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from eth_abi.abi import encode

from provider_agent.core.feed import EventFeed
from provider_agent.modules.jobs import book as book_module
from provider_agent.modules.jobs import duty as duty_module
from provider_agent.modules.jobs import housekeeping as housekeeping_module
from provider_agent.modules.jobs import views as views_module
from provider_agent.modules.jobs.adoption import adopt
from provider_agent.modules.jobs.backfill import Backfill
from provider_agent.modules.jobs.quotes import QuoteDesk
from provider_agent.modules.jobs.repository import spec_files
from provider_agent.modules.jobs.views import UploadRule
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Record, Terms
from teraproof.rpc.pace import Pace
from tests.agent.duty_parts import OTHER, OWNER, TENANT
from tests.agent.duty_rig import Rig
from tests.support.codes import fails_as

DATA = b"print(1)"
INPUT = (hashlib.sha256(DATA).hexdigest(), len(DATA))
MANY = 400


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.duty.close()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What was decoded and read, by name."""
    done: Counter[str] = Counter()

    def count(where: Any, name: str) -> None:
        real = getattr(where, name)

        def counted(*arguments: Any) -> Any:
            done[name] += 1
            return real(*arguments)

        monkeypatch.setattr(where, name, counted)

    for module in (views_module, housekeeping_module, duty_module):
        count(module, "decode_terms")
    count(book_module, "parse_named")
    return done


class NoQuotes:
    def specs_of(self, account: str) -> set[bytes]:
        return set()


def test_upload__account_with_many_orders__a_bounded_look_and_the_best_one_counts(
    rig: Rig, work: Counter[str]
) -> None:
    rig.cycle()
    rule = UploadRule(rig.book, rig.duty, cast(QuoteDesk, NoQuotes()), rig.policy, rig.capacity)
    junk = rig.spec(b"junk")
    for _ in range(MANY):
        rig.post(junk, max_price=1, start_price=1)
    spec = rig.spec(DATA)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.post(spec)
    work.clear()
    permit = rule(TENANT, *INPUT)
    assert permit is not None and permit.worth == 10**6
    assert not rule(TENANT, "0" * 64, 5)
    assert work["decode_terms"] <= 2 * 70


def test_upload__for_each_of_many_orders_that_pay_alike__taken(rig: Rig) -> None:
    """One account with more orders than one look takes in, each with a file of its own."""
    rig.cycle()
    rule = UploadRule(rig.book, rig.duty, cast(QuoteDesk, NoQuotes()), rig.policy, rig.capacity)
    files = [f"print({n})".encode() for n in range(200)]
    for data in files:
        spec = rig.spec(data)
        rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
        rig.post(spec)
    for data in files:
        assert rule(TENANT, hashlib.sha256(data).hexdigest(), len(data)), data
        assert not rule(TENANT, hashlib.sha256(data).hexdigest(), len(data) + 1)


def test_upload__specification_on_the_disk_and_not_on_record__taken(rig: Rig) -> None:
    """An agent has died between the two; its tenant is not asked for the specification again."""
    rig.cycle()
    rule = UploadRule(rig.book, rig.duty, cast(QuoteDesk, NoQuotes()), rig.policy, rig.capacity)
    spec = rig.spec(DATA)
    spec_files.write(rig.records.path.parent, spec.digest(), spec.canonical())
    rig.post(spec)
    assert rule(TENANT, *INPUT)
    adopt(rig.records, rig.runner)
    assert rig.records.prune_specs(set(), 2**40) == 0, "a job names it"
    assert rule(TENANT, *INPUT)


def test_upload__much_to_search__an_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, work: Counter[str]
) -> None:
    rig.cycle()
    rule = UploadRule(rig.book, rig.duty, cast(QuoteDesk, NoQuotes()), rig.policy, rig.capacity)
    monkeypatch.setattr(views_module, "_SEARCHED", 20_000)
    read: list[bytes] = []
    real = type(rig.records).spec
    for n in range(100):
        spec = rig.spec(f"print({n})".encode())
        rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
        rig.post(spec)

    def noted(self: Any, digest: bytes) -> bytes | None:
        read.append(digest)
        return real(self, digest)

    monkeypatch.setattr(type(rig.records), "spec", noted)
    assert not rule(TENANT, "0" * 64, 5)
    assert 0 < len(read) * len(spec.canonical()) <= 20_000


def test_upload__ours_among_many__found(rig: Rig, work: Counter[str]) -> None:
    rule = UploadRule(rig.book, rig.duty, cast(QuoteDesk, NoQuotes()), rig.policy, rig.capacity)
    for _ in range(MANY):
        rig.post(rig.spec(b"junk"), max_price=10**9)
    spec = rig.spec(DATA)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.assign(rig.post(spec))
    rig.cycle()
    permit = rule(TENANT, *INPUT)
    assert permit is not None and permit.worth is None


@pytest.mark.parametrize(("number", "stays"), [(1, False), (MANY // 4, True)])
def test_old_files__account_with_many_specifications__few_are_read(
    rig: Rig, work: Counter[str], number: int, stays: bool
) -> None:
    """Where they are too many to be read the files stay, until something worth more wants room."""
    for n in range(number):
        spec = rig.spec(f"other file {n}".encode())
        rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
        rig.post(spec, auction=10**9)
    with rig.inputs.receive(TENANT, *INPUT) as upload:
        upload.write(DATA)
        upload.finish()
    path = rig.inputs.path(TENANT, INPUT[0])
    assert path is not None
    os.utime(path, (1, 1))
    rig.cycle()
    work.clear()
    rig.housekeeper.see(rig.block.number, OWNER)
    rig.housekeeper.prune(600)
    assert path.exists() is stays
    assert work["parse_named"] <= 40


def test_quotes__asked_for_again_and_again__the_specification_is_read_once(
    rig: Rig, work: Counter[str]
) -> None:
    spec = rig.spec()
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    desk = cast(QuoteDesk, SimpleNamespace(_book=rig.book))
    for _ in range(50):
        found = QuoteDesk.spec(desk, spec.digest())
        assert found == spec
    assert work["parse_named"] == 1
    assert QuoteDesk.spec(desk, bytes(32)) is None


def test_unread_attestations__ours_alone_have_old_events_read_again(rig: Rig) -> None:
    sent: list[int] = []
    feed = cast(EventFeed, SimpleNamespace(look_back=sent.append))
    pace = cast(Pace, SimpleNamespace(seconds=12.0))
    for provider in (OTHER, OWNER):
        rig.assign(rig.post(rig.spec()), provider)
        (job,) = rig.records.jobs_by(provider, 2)
        record = Record(provider, rig.block.timestamp, rig.block.timestamp, 0, bytes(32))
        rig.chain.words[job.job_id] = record.state_word()
        rig.records.update_job(job.job_id, status=3, assigned_at=rig.block.timestamp - 10**4)
        backfill = Backfill(rig.book, rig.promises, feed, pace, 4, lambda: 0.0)
        backfill.look(rig.block, OWNER)
    assert len(sent) == 2 and sent[0] > sent[1]


def test_terms_of_our_job_are_damaged__the_agent_ends_before_it_works_on_it(rig: Rig) -> None:
    terms = rig.post(rig.spec())
    rig.upload(rig.spec())
    rig.assign(terms)
    wrong = bytearray(encode([Terms.ABI], [terms.abi_tuple()]))
    wrong[-1] ^= 1
    with rig.store.transaction() as db:
        db.execute("UPDATE jobs SET terms = ?", (bytes(wrong),))
    with fails_as(Code.DATABASE_DAMAGED):
        rig.cycle()
    assert rig.runs() == []
