# SPDX-License-Identifier: Apache-2.0
"""Many agents asked at once for a document that they publish.

An agent is a stranger. It may drip a byte a second, and there may be thousands like it. So each
answer has a time limit as a whole, and so have all of them together. Where there are many, the time
for each gets shorter, and the order is by lot: nobody's place in a list makes others late.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.rpc.http import Http, HttpFault
from teraproof.storage.reach import Reach
from teraproof.storage.uris import parse

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

EACH_SECONDS = 5.0  # for the whole answer of one agent
ALL_SECONDS = 20.0  # for those of all agents
_LEAST_SECONDS = 1.0  # for one agent, however many there are
_AT_ONCE = 128


@dataclass(frozen=True)
class Silence:
    """Why an agent has said nothing that can be used, in words that follow its name."""

    why: str
    is_late: bool = False
    """Whether there was no time for it: another time it may answer."""
    code: Code | None = None
    """Of what its answer is not."""


@dataclass(frozen=True)
class Question(Generic[_T_co]):
    """What agents are asked: the document at `path`, of at most `most` bytes.

    `read` makes something of its bytes, and raises LocalError for what is not one.
    """

    path: str
    most: int
    read: Callable[[bytes], _T_co]


def ask_each(
    urls: Mapping[str, str],
    question: Question[_T],
    reach: Reach,
    *,
    first: Collection[str] = (),
    each: float = EACH_SECONDS,
    whole: float = ALL_SECONDS,
) -> dict[str, _T | Silence]:
    """Owner -> what the agent at its URL says, within `whole` seconds. Never raises for what agents
    do. `reach` says which addresses may be asked; the owners in `first` are asked first.
    """
    waiting = deque(sorted(urls, key=lambda owner: (owner not in first, random.random())))  # noqa: S311 - fair, not secret
    found: dict[str, _T | Silence] = dict.fromkeys(urls, _LATE)
    at_once = min(_AT_ONCE, len(urls))
    until = time.monotonic() + whole
    tls = any(url.lower().startswith("https:") for url in urls.values())
    http = Http(tls=tls, resolve=reach.resolve, connections=max(1, at_once))

    def work() -> None:
        while True:
            try:
                owner = waiting.popleft()
            except IndexError:
                return
            left = until - time.monotonic()
            rounds = len(waiting) // at_once + 1
            seconds = min(left, each, max(_LEAST_SECONDS, left / rounds))
            if seconds > 0:
                found[owner] = _ask(http, urls[owner], question, reach, seconds)

    threads = [threading.Thread(target=work, name="asking", daemon=True) for _ in range(at_once)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        waiting.clear()  # Ctrl-C: each thread ends with its answer
        http.close()
    return found


_LATE = Silence("was not asked, since too many others are slow", is_late=True)


def ask_one(
    url: str, question: Question[_T], reach: Reach, seconds: float = EACH_SECONDS
) -> _T | Silence:
    """What the agent at one URL says."""
    return ask_each({url: url}, question, reach, each=seconds)[url]


def _ask(
    http: Http, url: str, question: Question[_T], reach: Reach, seconds: float
) -> _T | Silence:
    where = url.rstrip("/") + question.path
    try:
        reach.check(parse(where))
        answer = http.get(where, seconds=seconds, most=question.most)
    except HttpFault as fault:
        return Silence(f"does not answer ({fault.what})", is_late=fault.what == "timed out")
    except LocalError as error:
        return Silence(f"is not asked: {error}")
    if answer.status != 200:
        return Silence(f"answers with HTTP status {answer.status}")
    try:
        return question.read(answer.body)
    except LocalError as error:
        return Silence(str(error), code=error.code)
