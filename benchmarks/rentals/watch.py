# SPDX-License-Identifier: Apache-2.0
"""What somebody outside the agent sees of its leases: answers, programs, and chances to accuse."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.rentals.market import Rental, RentalWorld
from benchmarks.rentals.rent import Probe, Reading, top_level
from tests.agent_e2e.chain import Failed
from tests.support.anvil import AnvilError
from tests.support.processes import with_argument

EVERY = 0.5  # seconds from one request to the next
PATIENCE = 2.0  # seconds for an answer
LONGEST = EVERY + 2 * PATIENCE  # seconds between two requests that are seen as one after the other
_LOOK = 1.0  # seconds from one look at programs and at the contract to the next


class Round(threading.Thread):
    """Does something again and again, until it is ended."""

    def __init__(self, every: float, do: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._every, self._do, self._over = every, do, threading.Event()
        self.fault: Exception | None = None

    def run(self) -> None:
        """See the class. What goes wrong is kept for `end`."""
        due = time.monotonic()
        while not self._over.is_set():
            try:
                self._do()
            except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to
                self.fault = error
                return
            due = max(due + self._every, time.monotonic())
            self._over.wait(due - time.monotonic())

    def end(self) -> None:
        """End it; raises what has gone wrong."""
        self._over.set()
        self.join()
        if self.fault is not None:
            raise self.fault


class Prober:
    """Asks one service over its public port, and notes when it has answered."""

    def __init__(self, port: int) -> None:
        self.port, self.probes = port, list[Probe]()
        # Whose certificate it is is another test's matter.
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self.round = Round(EVERY, self._ask)

    def _ask(self) -> None:
        begin = time.monotonic()
        self.probes.append(Probe(begin, self.answers()))

    def answers(self) -> bool:
        """Whether it serves its page now."""
        link = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=PATIENCE, context=self._tls
        )
        try:
            link.request("GET", "/")
            answer = link.getresponse()
            return answer.status == http.client.OK and b"It works" in answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            link.close()


class Meter:
    """Reads again and again how much rent is due for leases."""

    def __init__(self, world: RentalWorld, rentals: Sequence[Rental]) -> None:
        self._world, self._rentals = world, rentals
        self.readings: dict[bytes, list[Reading]] = defaultdict(list)
        """Of each lease."""
        self.round = Round(_LOOK, self._look)

    def _look(self) -> None:
        for rental in self._rentals:
            at = time.monotonic()
            with contextlib.suppress(AnvilError):  # it has ended
                self.readings[rental.lease].append(Reading(at, self._world.due(rental)))


class Programs:
    """Counts the programs of each lease, by a word of their command lines."""

    def __init__(self, world: RentalWorld, words: Sequence[str]) -> None:
        self._world, self._words = world, words
        self.most: dict[str, int] = defaultdict(int)
        """The most that ran at one time, by word."""
        self.round = Round(_LOOK, self._look)

    def _look(self) -> None:
        for word, number in self.now().items():
            self.most[word] = max(self.most[word], number)

    def now(self) -> Mapping[str, int]:
        """How many run now. What one of them has started is not counted."""
        lines = with_argument("httpd")
        return {word: len(self._tops(word, lines)) for word in self._words}

    def kill(self, word: str) -> int:
        """SIGKILL to what runs of a lease now, from outside of its container; how many."""
        found = self._tops(word, with_argument("httpd"))
        for number in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return len(found)

    def _tops(self, word: str, lines: Mapping[int, str]) -> list[int]:
        name = self._world.name_of(word)
        tree = [(one, _parent(one)) for one, line in lines.items() if name in line.split()]
        # What has ended meanwhile has no parent.
        return list(top_level([one for one in tree if one[1]]))


class Hunter:
    """A stranger who accuses and closes leases as soon as the contract lets it."""

    def __init__(self, world: RentalWorld, rentals: Sequence[Rental]) -> None:
        self._world, self._rentals = world, rentals
        self.done: list[str] = []
        """What it could do, in words."""
        self.round = Round(_LOOK, self._look)

    def _look(self) -> None:
        leases = self._world.deployment.leases
        for rental in self._rentals:
            for function in ("accuse", "close"):
                if self._world.would_pass(rental, function):
                    with contextlib.suppress(Failed):
                        leases.send(self._world.stranger, function, rental.terms.abi_tuple())
                        self.done.append(f"{function} {rental.lease.hex()[:12]}")


def _parent(process: int) -> int:
    """The number of the process that started it; 0 when it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
