# SPDX-License-Identifier: Apache-2.0
"""Quotes are free: what many of them make the agent ask of nodes has a bound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from provider_agent.core.feed import EventFeed
from provider_agent.modules.jobs.backfill import Backfill
from provider_agent.modules.jobs.repository import QuoteRow
from provider_agent.modules.jobs.settings import JobsSettings
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef
from tests.agent.duty_parts import OWNER
from tests.agent.duty_rig import Rig
from tests.agent.test_paid_first import hire, quoted

SLOTS = 64


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, agent={"slots": SLOTS}, runner={"memory_reserve_mb": 0, "memory_mb": 64})
    made.cycle()
    yield made
    made.duty.close()


@pytest.fixture
def asked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The nonces of quotes that the chain was asked about."""
    nonces: list[int] = []
    real = rig.chain.quote_used

    def quote_used(operator: str, nonce: int, block: BlockRef) -> bool:
        nonces.append(nonce)
        return real(operator, nonce, block)

    monkeypatch.setattr(rig.chain, "quote_used", quote_used)
    return nonces


def ended(rig: Rig, number: int) -> list[int]:
    """Put quotes into the database that nobody has used, and that are over."""
    nonces = []
    for n in range(number):
        row = QuoteRow(
            digest=n.to_bytes(32, "big"),
            nonce=10**9 + n,
            spec=bytes(32),
            requester=f"0x{n:040x}",
            price=1,
            collateral=0,
            duration=600,
            expires=rig.block.timestamp - 10 - n,
            signature=bytes(65),
            created_at=rig.block.timestamp - 70 - n,
        )
        rig.records.put_quote(row)
        nonces.append(row.nonce)
    return nonces


def test_live_quotes__few_requests_a_cycle_however_many_there_are(
    rig: Rig, asked: list[int]
) -> None:
    quotes = quoted(rig, 20)
    for _ in range(20):  # 40 seconds
        rig.next_block(2)
        before = len(asked)
        rig.cycle(3)
        assert len(asked) - before <= 3 * 4
    assert {quote.nonce for quote in quotes} <= set(asked), "each has its turn"
    assert len(asked) <= 20 * 4


def test_start_after_many_quotes__ended_ones_are_asked_about_bit_by_bit_and_once(
    rig: Rig, asked: list[int]
) -> None:
    nonces = ended(rig, 300)
    rig.restart()
    for cycle in range(60):
        rig.next_block(1)
        rig.cycle()
        assert len(asked) <= 8 * (cycle + 1)
    assert sorted(asked) == nonces


def test_quote_that_ended_unused__forgotten_after_a_while(rig: Rig) -> None:
    ended(rig, 3)
    rig.next_block(1)
    rig.cycle()
    assert len(rig.records.live_quotes(0)) == 3
    rig.next_block(1_000)
    rig.cycle()
    assert rig.records.live_quotes(0) == []


def test_quote_that_ended_used__kept_and_its_slot_too(rig: Rig) -> None:
    ended(rig, 3)
    rig.chain.used_quotes.add(10**9 + 1)
    rig.next_block(1)
    rig.cycle()
    assert [quote.nonce for quote in rig.promises.unseen] == [10**9 + 1]
    rig.next_block(400)
    rig.cycle()
    assert [quote.nonce for quote in rig.promises.unseen] == [10**9 + 1]


def test_hired__seen_in_the_cycle_of_its_event(rig: Rig, asked: list[int]) -> None:
    quotes = quoted(rig, 10)
    rig.next_block(2)
    rig.cycle()
    hire(rig, quotes[7], quotes[7].requester)
    rig.next_block(2)
    rig.cycle()
    assert asked == [quotes[7].nonce]
    assert [quote.nonce for quote in rig.promises.used] == [quotes[7].nonce]


def test_unused_quotes__old_events_are_not_read_again_for_them(rig: Rig) -> None:
    """Logs of a day every few minutes would be dear where a node gives ten blocks at once."""
    ended(rig, 300)
    sent: list[int] = []
    feed = cast(EventFeed, SimpleNamespace(look_back=sent.append))
    pace = cast(Pace, SimpleNamespace(seconds=1.0))
    for _ in range(60):
        rig.next_block(rig.settings.section(JobsSettings).quote_seconds)
        rig.cycle()
    Backfill(rig.book, rig.promises, feed, pace, 4, lambda: rig.now).look(rig.block, OWNER)
    assert sent == [rig.block.number - 16], "some windows, as without quotes"
