# SPDX-License-Identifier: Apache-2.0
"""Thousands of endpoints that drip do not keep those who answer from being heard."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from teraproof.client import asking
from teraproof.client.asking import Question, Silence, ask_each
from teraproof.gateway import discovery
from teraproof.gateway.discovery import Found
from teraproof.gateway.hosts import Host
from teraproof.market.market import Market
from teraproof.market.ui import QuietUi
from teraproof.storage.reach import Reach
from tests.sdk.gateway.played import Played

QUESTION = Question("/v1/provider", 1_000, bytes)
HONEST = {f"honest {number}": number for number in range(5)}


class Crowd:
    """One server as many agents: `/drip/N/...` sends a byte now and then and never ends, `/good/N`
    answers at once. `asked` counts the requests of each kind.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1_024)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_until_complete(self._serving())

    async def _serving(self) -> None:
        self._over = asyncio.Event()
        await self._over.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                kind = line.split(b"/")[1].decode()
                self.asked[kind] += 1
                while (await reader.readline()).strip():
                    pass
                size = 4 if kind == "good" else 1_000
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
                if kind == "good":
                    writer.write(b"good")
                    continue
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.05)
        except OSError:
            pass
        finally:
            writer.close()

    def urls(self, drips: int) -> dict[str, str]:
        slow = {f"drip {n}": f"http://127.0.0.1:{self.port}/drip/{n}" for n in range(drips)}
        good = {
            name: f"http://127.0.0.1:{self.port}/good/{number}" for name, number in HONEST.items()
        }
        return {**slow, **good}

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    made = Crowd()
    yield made
    made.close()


def silent(found: dict[str, Any]) -> set[str]:
    return {name for name, said in found.items() if isinstance(said, Silence) and said.is_late}


def test_hundreds_that_drip__all_others_are_heard(crowd: Crowd) -> None:
    urls = crowd.urls(200)
    found = ask_each(urls, QUESTION, Reach.own(), each=3.0)
    assert {name for name, said in found.items() if said == b"good"} == HONEST.keys()
    assert silent(found) == urls.keys() - HONEST.keys()
    assert crowd.asked["drip"] == 200
    assert list(found) == list(urls)


def test_thousands_that_drip__there_is_one_limit_for_all(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who answered before is heard, the rest is told apart, and not everybody is waited for."""
    monkeypatch.setattr(asking, "_LEAST_SECONDS", 3.0)
    urls = crowd.urls(4_000)
    found = ask_each(urls, QUESTION, Reach.own(), first=HONEST, whole=6.0)
    assert {name for name, said in found.items() if said == b"good"} == HONEST.keys()
    assert silent(found) == urls.keys() - HONEST.keys()
    assert 0 < crowd.asked["drip"] < 1_000
    whys = Counter(str(getattr(said, "why", "good")) for said in found.values())
    assert whys["was not asked, since too many others are slow"] > 3_000


def test_who_is_asked_first__is_drawn(crowd: Crowd) -> None:
    """No place in the list of providers is heard before the others."""
    urls, rounds = crowd.urls(600), []
    for _ in range(4):
        found = ask_each(urls, QUESTION, Reach.own(), each=0.1, whole=0.1)
        rounds.append({name for name, said in found.items() if said != _unasked(found)})
    # How many are asked in time hangs on the machine; with a fixed order the most that any round
    # has would be all.
    assert len(set().union(*rounds)) > max(len(heard) for heard in rounds) > 0


def _unasked(found: dict[str, Any]) -> Any:
    return next(
        said for said in found.values() if isinstance(said, Silence) and "not asked" in said.why
    )


# ---------------------------------------------------------------------- the gateway


def test_host_that_was_late__stays_as_it_was() -> None:
    """Slow endpoints of others must not crowd a known host out. One that is gone goes."""
    with Played() as late, Played() as gone, Played() as new, Played() as slow:
        found = [
            Found(late.owner, None, "does not answer (timed out)", is_late=True),
            Found(gone.owner, None, "serves no models", is_empty=True),
            Found(new.owner, new.host),
            Found(slow.owner, None, "was not asked", is_late=True),
        ]
        hosts: list[Host] = discovery.still(found, [late.host, gone.host])
        assert {host.owner for host in hosts} == {new.owner, late.owner}


def test_models__says_how_many_were_late() -> None:
    ui = QuietUi()
    found = [Found(f"0x{n}", None, "does not answer (timed out)", is_late=True) for n in range(3)]
    found.append(Found("0x9", None, "serves no models", is_empty=True))
    shown = discovery.show(cast(Market, SimpleNamespace(symbol="tUSD")), found, ui)
    assert any("3 providers did not answer in time" in note for note in ui.lines)
    assert [one["why"] for one in shown["others"]].count("does not answer (timed out)") == 3


def explained(*found: Found) -> list[str]:
    ui = QuietUi()
    discovery.explain(found, ui)
    return ui.lines


def test_no_host__why_not_is_said_of_each_that_may_serve_models() -> None:
    barred = Found("0xA", None, "is not asked: 127.0.0.1 leads to an address that is not public")
    empty = Found("0xB", None, "serves no models", is_empty=True)
    unfit = Found("0xC", None, "serves models and is not used: its delay", is_unfit=True)
    lines = explained(empty, barred, unfit)
    assert [line.split()[0] for line in lines] == ["0xA", "0xC", "no"]
    assert "127.0.0.1 leads to" in lines[0] and "no registered provider" in lines[-1]
    many = explained(*(Found(f"0x{number}", None, "does not answer") for number in range(8)))
    assert len(many) == 7 and many[5].startswith("3 more are not used")
    assert explained() == [lines[-1]]


def test_a_host__others_are_named_where_their_terms_are_not_taken() -> None:
    with Played() as good:
        host = Found(good.owner, good.host)
        away = Found("0xA", None, "does not answer (timed out)", is_late=True)
        unfit = Found("0xC", None, "serves models and is not used: its delay", is_unfit=True)
        assert explained(host, away, unfit) == ["0xC serves models and is not used: its delay"]
        assert explained(host, away) == []
