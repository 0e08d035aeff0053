# SPDX-License-Identifier: Apache-2.0
"""The machines of a fleet that answer, and the ways to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from provider_agent.errors import RunnerError
from provider_agent.runners.ray import keys, wire
from provider_agent.runners.ray.cluster import Cluster, Contact, Survey, Terms
from provider_agent.runners.ray.link import Link
from teraproof.protocol.errors import Code

_Found = TypeVar("_Found")

_SURVEY_SECONDS = 5.0  # for our part on a machine; where it has just begun, the next look finds it
_FRESH_SECONDS = 3.0
_ASIDE_SECONDS = 3.0
_AT_ONCE = 32


class Aside:
    """A thread of its own for what may hang, one thing at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self._work: Future[object] | None = None
        self._lock = threading.Lock()

    def run(self, work: Callable[[], object], seconds: float) -> None:
        """Begins with it, and waits for a moment. Raises what it raises in that time. While the
        last thing goes on, nothing is done.
        """
        with self._lock:
            if self._work is not None and not self._work.done():
                return
            self._work = mine = self._pool.submit(work)
        with suppress(NotYet):
            mine.result(seconds)

    def close(self) -> None:
        """Waits for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Fleet:
    """See the module. `place` keeps the agent's key; a machine has `seconds` for an answer."""

    def __init__(self, terms: Terms, place: Path, seconds: float) -> None:
        self.cluster = Cluster(terms, place)
        self._place, self._seconds = place, seconds
        #: As Ray last said.
        self.survey = Survey({}, {})
        self.links: dict[str, Link] = {}
        #: All addresses of the fleet and of Ray that were seen since the start.
        self.addresses: frozenset[str] = frozenset()
        #: Why other machines are not reached.
        self.faults: dict[str, str] = {}
        self._lock = threading.Lock()
        self._looked = float("-inf")
        #: For what the keeping of leases must not wait for.
        self.aside = Aside()

    def look(self, seconds: float = _SURVEY_SECONDS) -> Survey:
        """Asks Ray for its machines, and for the way to each. Raises RunnerError."""
        identity = keys.identity(self._place, "agent")
        try:
            found = self.cluster.survey(identity.pem, seconds)
        finally:
            self._looked = time.monotonic()
        with self._lock:
            self.survey = found
            theirs = (one.addresses for one in found.contacts.values())
            self.addresses = self.addresses.union(found.addresses, *theirs)
            self.faults = {name: one.fault for name, one in found.contacts.items() if one.fault}
            links = {}
            for name, contact in found.contacts.items():
                if not contact.fault:
                    old = self.links.get(name)
                    same = old is not None and _same(old.contact, contact)
                    links[name] = old if same and old else Link(contact, identity, self._seconds)
            self.links = links
        return found

    def look_aside(self) -> None:
        """As `look_again`, but a Ray that hangs is waited for no longer than a moment."""
        self.aside.run(self.look_again, _ASIDE_SECONDS)

    def close(self) -> None:
        """Leaves the cluster, and breaks off what is asked of machines."""
        self.aside.close()
        for link in self.links.values():
            link.cut()
        self.cluster.close()

    def look_again(self) -> None:
        """Looks, unless that was just done: what is away costs no time again and again."""
        if time.monotonic() - self._looked > _FRESH_SECONDS:
            self.look()

    def link(self, machine: str) -> Link:
        """The way to a machine. Raises RunnerError."""
        link = self.links.get(machine)
        if link is None:
            self.look_again()
            link = self.links.get(machine)
        if link is None:
            raise self._fault(machine)
        return link

    def _fault(self, machine: str) -> RunnerError:
        return wire.away(machine, self.faults.get(machine, "Ray has no node of this name"))

    def at(self, machine: str, work: Callable[[Link], _Found]) -> _Found:
        """Does something at a machine; once more where it has moved to another port meanwhile."""
        link = self.link(machine)
        try:
            return work(link)
        except RunnerError as error:
            if error.code is not Code.CONTAINERS_AWAY:
                raise
            with suppress(RunnerError):
                self.look_again()
            new = self.links.get(machine)
            if new is None or new is link:
                raise
        return work(new)

    def all(
        self, work: Callable[[Link], _Found], machines: Collection[str] | None = None
    ) -> dict[str, _Found | Exception]:
        """Does something at all machines at once, or at some; what each has said or raised."""

        def one(link: Link) -> _Found | Exception:
            try:
                return work(link)
            except Exception as error:  # noqa: BLE001  # one machine's fault is not another's
                return error

        links = {k: v for k, v in self.links.items() if machines is None or k in machines}
        missing = {name: self._fault(name) for name in {*(machines or ())} - links.keys()}
        if not links:
            return dict(missing)
        with ThreadPoolExecutor(min(len(links), _AT_ONCE)) as pool:
            return {**dict(zip(links, pool.map(one, links.values()), strict=True)), **missing}

    def each(
        self, work: Callable[[Link], _Found], machines: Collection[str] | None = None
    ) -> dict[str, _Found]:
        """Does something at all machines, or at some; what those have said that answer."""
        if not self.links:
            self.look_again()
        said = self.all(work, machines)
        answers = {name: one for name, one in said.items() if not isinstance(one, Exception)}
        if not answers:
            raise next((one for one in said.values() if isinstance(one, Exception)), self.nobody())
        return answers

    def anywhere(self, work: Callable[[Link], _Found]) -> _Found:
        """Does something at the first machine that answers."""
        if not self.links:
            self.look()
        last = self.nobody()
        for name in sorted(self.links):
            try:
                return work(self.links[name])
            except RunnerError as error:
                if error.code is not Code.CONTAINERS_AWAY:
                    raise
                last = error
        raise last

    def nobody(self) -> RunnerError:
        """No machine answers."""
        for name, fault in sorted(self.faults.items()):
            return wire.away(name, fault)
        return RunnerError("no machine of the fleet answers", Code.CONTAINERS_AWAY)


def _same(old: Contact, new: Contact) -> bool:
    return (old.host, old.port, old.certificate) == (new.host, new.port, new.certificate)
