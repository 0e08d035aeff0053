# SPDX-License-Identifier: Apache-2.0
"""Tells each machine what should be there, apart from the others: one that hangs holds up none.

A machine hears of the next wishes once it has answered. Until then it may still go by the last
ones, so nothing is put there of which it has not heard.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from provider_agent.runners.ray.link import Link

log = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds that one cycle waits for the machines
_GOOD = 15.0  # seconds for which the last word of one that is still at work is good
_SECONDS = 120.0  # for an answer: containers are ended meanwhile
_AT_ONCE = 64


@dataclass(frozen=True)
class Word:
    """What a machine has said, when it began to be asked (monotonic), and what it was to keep.
    `is_new` where this is the first look at it.
    """

    said: Mapping[str, Any]
    at: float
    wanted: frozenset[str]
    is_new: bool = True


@dataclass(frozen=True)
class _Asked:
    answer: Future[dict[str, Any]]
    at: float
    wanted: frozenset[str]


class Keeper:
    """See the module. `keep` is for one thread, the rest for any."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fleet")
        self._asked: dict[str, _Asked] = {}
        self._words: dict[str, Word] = {}

    def keep(
        self,
        links: Mapping[str, Link],
        wanted: Collection[str],
        where: Mapping[str, str],
        fleet: Collection[str] = (),
    ) -> dict[str, Word]:
        """Tells the machines what they are to keep of `wanted`; what those have said that answer.
        What is nowhere yet may be on any of them: it is being fetched for, or placed. `fleet` are
        the addresses that no lease may reach.
        """
        begun = []
        for name, link in links.items():
            if name not in self._asked:
                mine = frozenset(one for one in wanted if where.get(one, name) == name)
                work = self._pool.submit(_keep, link, mine, sorted(fleet))
                self._asked[name] = _Asked(work, time.monotonic(), mine)
                begun.append(work)
        wait(begun, timeout=_PATIENCE)  # for those that are late already nobody waits again
        found = {}
        for name in list(self._asked):
            word = self._hear(name)
            if word is not None and name in links:
                found[name] = word
        return found

    def _hear(self, name: str) -> Word | None:
        asked, last = self._asked[name], self._words.get(name)
        if not asked.answer.done():
            if last is None or time.monotonic() - last.at > _GOOD:
                log.warning("fleet: %s does not answer", name)
                return None
            return Word(last.said, last.at, last.wanted, is_new=False)
        del self._asked[name]
        error = asked.answer.exception()
        if error is not None:
            log.warning("fleet: %s: %s", name, error)
            self._words.pop(name, None)
            return None
        self._words[name] = word = Word(asked.answer.result(), asked.at, asked.wanted)
        return word

    def late(self) -> dict[str, frozenset[str]]:
        """The machines that are still at work, and the leases of which they had something."""
        found = {}
        for name in list(self._asked):
            word = self._words.get(name)
            found[name] = frozenset() if word is None else frozenset(word.said["left"])
        return found

    def knows(self, machine: str, lease_id: str) -> bool:
        """Whether a machine does nothing now that leaves out this lease."""
        asked = self._asked.get(machine)
        return asked is None or asked.answer.done() or lease_id in asked.wanted

    def close(self) -> None:
        """Waits for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _keep(link: Link, wanted: frozenset[str], fleet: list[str]) -> dict[str, Any]:
    return dict(link.ask("keep", wanted=sorted(wanted), fleet=fleet, within=_SECONDS))
