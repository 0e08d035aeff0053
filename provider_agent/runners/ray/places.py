# SPDX-License-Identifier: Apache-2.0
"""Where leases are put. Ray chooses a machine once and holds there what the lease takes; the book
says which it was, for as long as anything of the lease is left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners.disk import Taken
from provider_agent.runners.lease import ImageRoom, Lease
from provider_agent.runners.lease_json import digest, to_json
from provider_agent.runners.ray import rooms
from provider_agent.runners.ray.book import Book, Placed
from provider_agent.runners.ray.machines import Fleet
from provider_agent.runners.ray.node import taken
from provider_agent.runners.ray.rooms import Machine
from teraproof.errors import Refused

log = logging.getLogger(__name__)

_HOLD_SECONDS = 5.0


class Places:
    """See the module. Any thread. `needs` says what a lease takes of its machine, `knows` whether a
    machine does nothing now that leaves out a lease.
    """

    def __init__(
        self,
        book: Book,
        fleet: Fleet,
        needs: Callable[[Lease], Taken],
        knows: Callable[[str, str], bool],
    ) -> None:
        self._book, self._fleet, self._needs, self._knows = book, fleet, needs, knows
        self._lock = threading.RLock()
        #: Leases for which a machine is being found.
        self._found: set[str] = set()
        self._preferred: Mapping[str, str] = {}
        #: Leases that are gone, and for which Ray may still hold something.
        self._left: set[str] = set()

    def find(self, lease_id: str) -> Placed | None:
        """Where a lease is; None where it is nowhere."""
        return self._book.find(lease_id)

    def prefer(self, machines: Mapping[str, str]) -> None:
        """Puts leases that are not placed yet on these machines, if that can be done."""
        self._preferred = machines

    def where(self) -> dict[str, str]:
        """The machine of each lease that has one."""
        return {lease_id: placed.machine for lease_id, placed in self._book.all().items()}

    def machine(self, name: str, said: Mapping[str, Any]) -> Machine:
        """A machine, by what Ray has of it and what it has said itself."""
        survey = self._fleet.survey
        contact, placed = survey.contacts[name], self._book.all()
        here = [_device(one) for one in said["here"]]
        return rooms.machine_of(
            name,
            contact.there,
            contact.free,
            [self._held(one.lease) for key, one in placed.items() if survey.holds.get(key) == name],
            ImageRoom(**said["images"]),
            rooms.Disk(**said["disk"]),
            here,
            [one for one in here if one.uuid in said["free"]],
        )

    def _held(self, lease: Lease) -> dict[str, float]:
        """What a lease holds of Ray's resources."""
        needs = self._needs(lease)
        return taken(lease, needs.memory, needs.disk)

    def placed(self, lease: Lease) -> Placed:
        """Where a lease is; a machine is found for one that is nowhere. It stays there."""
        found = self._book.find(lease.lease_id)
        if found is not None:
            if digest(found.lease) != digest(lease):
                raise RunnerError(f"lease {lease.lease_id} is there, and asks for something else")
            return found
        with self._finding(lease.lease_id):
            return self._book.write(lease, self._choose(lease))

    def _choose(self, lease: Lease) -> str:
        """The machine of a lease, where Ray holds now what it takes."""
        asked, lease_id = to_json(lease), lease.lease_id
        self._fleet.look()
        heard = self._fleet.all(lambda link: link.ask("fits", lease=asked))
        answers = {name: one for name, one in heard.items() if not isinstance(one, Exception)}
        if not answers:
            raise next(iter(errors(heard)), self._fleet.nobody())
        for name, one in sorted(answers.items()):
            if one["here"]:  # the agent has lost its own disk
                return name
        fit = [name for name, one in sorted(answers.items()) if not one["why"]]
        # One that still goes by older wishes would take it away again.
        fit = [name for name in fit if self._knows(name, lease_id)]
        held, machine = self._held(lease), ""
        for some in ([one for one in fit if one == self._preferred.get(lease_id)], fit):
            if some and not machine:
                machine = self._fleet.cluster.hold(lease_id, held, some, _HOLD_SECONDS)
        if not machine:
            raise _no_room(lease, {one["why"] for one in answers.values()} if not fit else ())
        return machine

    @contextmanager
    def _finding(self, lease_id: str) -> Iterator[None]:
        """What Ray holds for this lease meanwhile is wanted, though it is not written down yet."""
        with self._lock:
            self._found.add(lease_id)
        try:
            yield
        finally:
            with self._lock:
                self._found.discard(lease_id)

    def large_enough(self, lease: Lease) -> list[str]:
        """The machines that have room for a lease when nothing else is there. Raises RunnerError
        where there is none.
        """
        wanted = rooms.room(self._held(lease), ())
        gpus = sum(len(service.devices) for service in lease.services)
        fit = []
        for name, contact in sorted(self._fleet.survey.contacts.items()):
            whole = rooms.room(contact.there, ())
            if (
                whole.cpu >= wanted.cpu
                and whole.memory >= wanted.memory
                and whole.disk >= wanted.disk
                and (contact.there or {}).get("GPU", 0) >= gpus
            ):
                fit.append(name)
        if not fit and self._fleet.links:
            raise _no_room(lease)
        return fit

    def gone(self, lease_id: str) -> None:
        """Nothing of a lease is left on its machine."""
        self._fleet.cluster.release(lease_id)
        self._book.remove(lease_id)

    def forget(self, lease_id: str) -> None:
        """As `gone`, without Ray: `square` has it give back what it holds."""
        with self._lock:
            self._left.add(lease_id)
        self._book.remove(lease_id)

    def square(self, wanted: Collection[str]) -> None:
        """Has Ray hold what it should, and nothing else."""
        with self._lock:
            # In this order: what is found is written down before it is no more among these.
            busy = set(self._found)
            where = self.where()
            holds = set(self._fleet.survey.holds)
        try:
            for lease_id in (holds | self._left) - set(where) - busy:
                self._fleet.cluster.release(lease_id)
                self._left.discard(lease_id)
            for lease_id in sorted(set(where) & set(wanted) - holds - busy):
                if not self._hold_again(lease_id, where[lease_id]):
                    break  # the others in the next cycle
        except RunnerError as error:
            log.warning("fleet: %s", error)

    def _hold_again(self, lease_id: str, machine: str) -> bool:
        """After Ray has forgotten all: its head was started from nothing."""
        found = self._book.find(lease_id)
        if found is None or machine not in self._fleet.links:
            return True
        held = self._held(found.lease)
        if self._fleet.cluster.hold(lease_id, held, [machine], _HOLD_SECONDS):
            return True
        log.warning("fleet: Ray has no room on %s for what runs there", machine)
        return False


def errors(said: Mapping[str, object]) -> list[Exception]:
    """What machines have raised: what a tenant can mend first."""
    found = [one for one in said.values() if isinstance(one, Exception)]
    return sorted(found, key=lambda one: not isinstance(one, Refused))


def _no_room(lease: Lease, whys: Collection[str] = ()) -> RunnerError:
    more = "; ".join(sorted({*whys} - {""}))
    return RunnerError(
        f"no single machine of the fleet has room for lease {lease.lease_id}"
        + (f" ({more})" if more else "")
    )


def _device(value: Mapping[str, Any]) -> Device:
    return Device(**{**value, "caps": tuple(value["caps"])})
