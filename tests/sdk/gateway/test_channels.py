# SPDX-License-Identifier: Apache-2.0
"""Which channel a request gets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from teraproof.gateway.ledger import Channel
from teraproof.gateway.purse import Purse
from tests.sdk.gateway.played import Played
from tests.sdk.gateway.rig import running

MANY = 40


@pytest.fixture
def provider() -> Iterator[Played]:
    with Played() as found:
        yield found


async def take(purse: Purse, provider: Played, number: int, ceiling: int = 10) -> list[Channel]:
    return [await purse.take(provider.host, ceiling) for _ in range(number)]


def test_many_channels__are_not_rebuilt_for_each_request(
    provider: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    real = Purse._config

    def counted(purse: Purse, *args: Any) -> Any:
        made.append(args)
        return real(purse, *args)

    async def work() -> None:
        async with running(tmp_path, [provider], pay={"channels_per_provider": MANY}) as rig:
            purse = rig.gateway.relay.means.purse
            found = await take(purse, provider, MANY)
            for channel in found:
                channel.balance = 100
                purse.release(channel)
            monkeypatch.setattr(Purse, "_config", counted)
            again = await take(purse, provider, MANY)
            assert {one.id for one in again} == {one.id for one in found}
            for channel in again:
                purse.release(channel)

    asyncio.run(work())
    assert len(made) == MANY  # one for each request, however many channels there are


def test_take__a_channel_that_needs_nothing_before_one_that_is_unclear_or_short(
    provider: Played, tmp_path: Path
) -> None:
    async def work() -> None:
        async with running(tmp_path, [provider], pay={"channels_per_provider": 4}) as rig:
            purse = rig.gateway.relay.means.purse
            short, unclear, other, ready = await take(purse, provider, 4)
            short.balance, unclear.balance, other.balance, ready.balance = 5, 100, 100, 100
            unclear.unclear, other.url = 1, "http://elsewhere"
            other.not_before = float("inf")
            for channel in (short, unclear, other, ready):
                purse.release(channel)
            assert await take(purse, provider, 3) == [ready, unclear, short]
            for channel in (short, unclear, ready):
                purse.release(channel)

    asyncio.run(work())
