# SPDX-License-Identifier: Apache-2.0
"""The lease runner of a fleet: see `runners.lease` for what it promises.

Ray chooses the machine of a lease, once, and holds its resources there. The machine's own runner
contains it. Where a lease is stands on the agent's disk before its machine hears of it, and it
never moves: of a machine that does not answer nothing is known, so what ran there is started
nowhere else. When it is back, it is asked what it has, and removes what nobody wants.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners.disk import Taken
from provider_agent.runners.docker.locks import Locks
from provider_agent.runners.lease import (
    Arrival,
    Credentials,
    ImageRoom,
    Lease,
    LeaseState,
    Output,
    Port,
    Shell,
    to_json,
)
from provider_agent.runners.ray import rooms, wire
from provider_agent.runners.ray.book import Book, Placed
from provider_agent.runners.ray.cluster import Terms
from provider_agent.runners.ray.link import Channel, Link, Printed, placed
from provider_agent.runners.ray.machines import Fleet
from provider_agent.runners.ray.node import taken
from provider_agent.runners.ray.relay import Relay
from provider_agent.runners.ray.rooms import Machine, Room
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")

_SECONDS = 20.0  # for an answer
_STOP_SECONDS = 120.0
_CHECK_SECONDS = 120.0
_PREPARE_SECONDS = 7200.0  # images
_SURVEY_SECONDS = 15.0
_HOLD_SECONDS = 5.0
_AT_ONCE = 32


class RayRunner:
    """See the module. `data_dir` is the agent's."""

    def __init__(self, data_dir: Path, terms: Terms, *, seconds: float = _SECONDS) -> None:
        place = data_dir.absolute() / "fleet"
        self._terms = terms
        self._book = Book(place / "leases")
        self._fleet = Fleet(terms, place, seconds)
        self._relays: dict[tuple[str, str, int, Port], Relay] = {}
        self._lock = threading.RLock()
        self._locks = Locks()
        #: Leases for which a machine is being found.
        self._found: set[str] = set()

    def close(self) -> None:
        """Lets go of the cluster. All leases go on."""
        with self._lock:
            relays, self._relays = list(self._relays.values()), {}
        for relay in relays:
            relay.close()
        self._fleet.cluster.close()

    # ------------------------------------------------------------------ the fleet

    def machines(self) -> tuple[Machine, ...]:
        """All machines that answer, sorted by name: what they have, and what is free."""
        survey = self._fleet.look()
        answers = self._fleet.each(lambda link: link.ask("devices"))
        found = []
        for name, said in sorted(answers.items()):
            contact = survey.contacts[name]
            here = [_device(one) for one in said["here"]]
            free = [one for one in here if one.uuid in said["free"]]
            found.append(
                Machine(name, rooms.room(contact.there, here), rooms.room(contact.free, free))
            )
        return tuple(found)

    def largest(self) -> tuple[Room, ...]:
        """The free rooms of which one has to cover a lease that is taken; see `rooms.largest`."""
        return rooms.largest(self.machines())

    # ------------------------------------------------------------------ before a lease

    def check(self) -> str:
        """See `lease.LeaseRunner`."""
        self._terms.check()
        self._fleet.look(_CHECK_SECONDS)
        if self._fleet.faults:
            name, fault = next(iter(sorted(self._fleet.faults.items())))
            raise wire.away(name, fault)
        if not self._fleet.links:
            raise RunnerError(
                "Ray has no machine for leases; start Ray there with "
                "--labels teraproof.io/machine=NAME --resources '{\"teraproof_disk\": MIB}'",
                Code.CONTAINERS_AWAY,
            )
        said = self._fleet.all(lambda link: link.ask("check", within=_CHECK_SECONDS))
        for _, one in sorted(said.items()):
            if isinstance(one, Exception):
                raise one
        ways = sorted({str(one) for one in said.values()})
        return f"a fleet of {len(said)} by Ray, with its token: {'; '.join(ways)}"

    def resolve(self, image: str, credentials: Credentials | None = None) -> str:
        """See `lease.LeaseRunner`."""
        given = wire.credentials_to_json({"": credentials} if credentials else None)
        return str(
            self._fleet.anywhere(lambda link: link.ask("resolve", image=image, credentials=given))
        )

    def needs(self, lease: Lease) -> Taken:
        """See `lease.LeaseRunner`."""
        said = self._fleet.anywhere(lambda link: link.ask("needs", lease=to_json(lease)))
        return Taken(**said)

    # ------------------------------------------------------------------ images

    def fetch(
        self,
        lease: Lease,
        credentials: Mapping[str, Credentials] | None = None,
        *,
        most: int,
        seconds: float,
    ) -> None:
        """See `lease.LeaseRunner`. From now on the lease has its machine."""
        with self._locks.held(lease.lease_id):
            machine = self._placed(lease, prepared=False).machine
        asked = {
            "lease": to_json(lease),
            "credentials": wire.credentials_to_json(credentials),
            "most": most,
            "seconds": seconds,
        }
        self._fleet.at(machine, lambda link: link.ask("fetch", within=seconds + _SECONDS, **asked))

    def arrival(self, lease_id: str) -> Arrival | None:
        """See `lease.LeaseRunner`. Waits for its machine, for a moment."""
        found = self._book.find(lease_id)
        if found is None:
            return None
        said = self._fleet.at(found.machine, lambda link: link.ask("arrival", lease=lease_id))
        return None if said is None else Arrival(**said)

    def give_up(self, lease_id: str) -> None:
        """See `lease.LeaseRunner`."""
        found = self._book.find(lease_id)
        if found is None:
            return
        self._fleet.at(found.machine, lambda link: link.ask("give_up", lease=lease_id))
        with self._locks.held(lease_id):
            if not self._fleet.at(found.machine, lambda link: link.ask("give_up", lease=lease_id)):
                self._gone(lease_id)

    def image_room(self) -> ImageRoom:
        """See `lease.LeaseRunner`. Of all machines that answer, together."""
        said = self._fleet.each(lambda link: ImageRoom(**link.ask("image_room")))
        return ImageRoom(
            held=sum(one.held for one in said.values()),
            expected=sum(one.expected for one in said.values()),
            idle=sum(one.idle for one in said.values()),
        )

    def free_images(self, size: int) -> int:
        """See `lease.LeaseRunner`. On each machine: another one's room is of no use to it."""
        said = self._fleet.each(lambda link: int(link.ask("free_images", size=size)))
        return sum(said.values())

    # ------------------------------------------------------------------ the life of a lease

    def prepare(self, lease: Lease, credentials: Mapping[str, Credentials] | None = None) -> None:
        """See `lease.LeaseRunner`."""
        with self._locks.held(lease.lease_id):
            machine = self._placed(lease, prepared=True).machine
        given = wire.credentials_to_json(credentials)
        self._fleet.at(
            machine,
            lambda link: link.ask(
                "prepare", within=_PREPARE_SECONDS, lease=to_json(lease), credentials=given
            ),
        )

    def _placed(self, lease: Lease, *, prepared: bool) -> Placed:
        """Where a lease is; a machine is found for one that is nowhere. It may change until it is
        prepared, and stays where it is.
        """
        found = self._book.find(lease.lease_id)
        if found is not None and found.prepared:
            if found.lease.digest() != lease.digest():
                raise RunnerError(f"lease {lease.lease_id} is there, and asks for something else")
            return found
        with self._finding(lease.lease_id):
            machine = self._choose(lease, found)
            return self._book.write(lease, machine, prepared=prepared)

    def _choose(self, lease: Lease, found: Placed | None) -> str:
        """The machine of a lease, where Ray holds now what it takes."""
        asked = to_json(lease)
        if found is not None:
            said = self._fleet.at(found.machine, lambda link: link.ask("fits", lease=asked))
            answers = {found.machine: {**said, "here": False}}
            if found.lease.digest() != lease.digest():
                self._fleet.cluster.release(lease.lease_id)
        else:
            self._fleet.look()
            heard = self._fleet.all(lambda link: link.ask("fits", lease=asked))
            answers = {name: one for name, one in heard.items() if not isinstance(one, Exception)}
            if not answers:
                raise next(
                    (one for one in heard.values() if isinstance(one, Exception)),
                    self._fleet.nobody(),
                )
            for name, one in sorted(answers.items()):
                if one["here"]:  # the agent has lost its own disk
                    return name
        fit = {name: one["needs"] for name, one in sorted(answers.items()) if not one["why"]}
        machine = ""
        if fit:
            needs = next(iter(fit.values()))
            held = taken(lease, needs["memory"], needs["disk"])
            machine = self._fleet.cluster.hold(lease.lease_id, held, list(fit), _HOLD_SECONDS)
        if not machine:
            whys = {one["why"] for one in answers.values()} - {""}
            more = f" ({'; '.join(sorted(whys))})" if whys and not fit else ""
            raise RunnerError(
                f"no single machine of the fleet has room for lease {lease.lease_id}{more}"
            )
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

    def start(self, lease_id: str) -> None:
        """See `lease.LeaseRunner`."""
        self._fleet.at(
            self._where(lease_id).machine,
            lambda link: link.ask("start", lease=lease_id, within=_STOP_SECONDS),
        )

    def stop(self, lease_id: str) -> None:
        """See `lease.LeaseRunner`."""
        self._fleet.at(
            self._where(lease_id).machine,
            lambda link: link.ask("stop", lease=lease_id, within=_STOP_SECONDS),
        )

    def state(self, lease_id: str) -> LeaseState:
        """See `lease.LeaseRunner`."""
        said = self._fleet.at(
            self._where(lease_id).machine, lambda link: link.ask("state", lease=lease_id)
        )
        return wire.state_from_json(said)

    def remove(self, lease_id: str) -> None:
        """See `lease.LeaseRunner`."""
        self._close_relays(lease_id)
        found = self._book.find(lease_id)
        if found is None:  # whoever has anything of it
            said = self._fleet.all(
                lambda link: link.ask("remove", lease=lease_id, within=_STOP_SECONDS)
            )
            for one in said.values():
                if isinstance(one, Exception):
                    raise one
            return
        self._fleet.at(
            found.machine,
            lambda link: link.ask("remove", lease=lease_id, within=_STOP_SECONDS),
        )
        self._gone(lease_id)

    def _gone(self, lease_id: str) -> None:
        """Nothing of a lease is left on its machine."""
        self._fleet.cluster.release(lease_id)
        self._book.remove(lease_id)

    def list(self) -> tuple[str, ...]:
        """See `lease.LeaseRunner`. What is on machines that are away and was never written down
        here is missing.
        """
        with suppress(RunnerError):
            self._fleet.look()
        said = self._fleet.all(lambda link: link.ask("list"))
        there = {lease_id for one in said.values() if isinstance(one, list) for lease_id in one}
        return tuple(sorted(there | set(self._book.all())))

    def keep(self, wanted: Collection[str]) -> Mapping[str, LeaseState]:
        """See `lease.LeaseRunner`. Raises where no machine answers."""
        try:
            self._fleet.look()
        except RunnerError as error:
            # Machines answer without Ray: it only places.
            log.warning("fleet: %s", error)
        where = self._book.all()

        def keep(link: Link) -> dict[str, Any]:
            # What is being placed may already be on its machine.
            mine = [one for one in wanted if where.get(one, link.machine) == link.machine]
            return dict(link.ask("keep", wanted=mine, within=_STOP_SECONDS))

        said = self._fleet.all(keep)
        states: dict[str, LeaseState] = {}
        for name, answer in said.items():
            if isinstance(answer, Exception):
                log.warning("fleet: %s: %s", name, answer)
                continue
            for one in answer["states"]:
                if where.get(one["lease_id"], name) == name:
                    states[one["lease_id"]] = wire.state_from_json(one)
            for lease_id, machine in where.items():
                if machine == name and lease_id not in {*wanted, *answer["left"]}:
                    self._close_relays(lease_id)
                    self._gone(lease_id)
        answered = {name for name, one in said.items() if not isinstance(one, Exception)}
        if not answered and set(wanted) & set(where):
            raise self._fleet.nobody()
        self._square(wanted)
        return states

    def _square(self, wanted: Collection[str]) -> None:
        """Has Ray hold what it should, and nothing else."""
        with self._lock:
            # In this order: what is found is written down before it is no more among these.
            busy = set(self._found)
            where = self._book.all()
            holds = set(self._fleet.survey.holds)
        try:
            for lease_id in holds - set(where) - busy:
                self._fleet.cluster.release(lease_id)
            for lease_id in sorted(set(where) & set(wanted) - holds - busy):
                if not self._hold_again(lease_id, where[lease_id]):
                    break  # the others in the next cycle
        except RunnerError as error:
            log.warning("fleet: %s", error)

    def _hold_again(self, lease_id: str, machine: str) -> bool:
        """After Ray has forgotten all: its head was started from nothing."""
        found, link = self._book.find(lease_id), self._fleet.links.get(machine)
        if found is None or link is None:
            return True
        needs = link.ask("needs", lease=to_json(found.lease))
        held = taken(found.lease, needs["memory"], needs["disk"])
        if self._fleet.cluster.hold(lease_id, held, [machine], _HOLD_SECONDS):
            return True
        log.warning("fleet: Ray has no room on %s for what runs there", machine)
        return False

    def changes(self) -> Iterator[str]:
        """See `lease.LeaseRunner`. It ends when a machine goes away."""
        self._fleet.look()
        heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        channels: list[Channel] = []

        def listen(channel: Channel) -> None:
            with suppress(RunnerError):
                while piece := channel.read()[1]:
                    if piece.strip():
                        heard.put(piece.decode())
            heard.put(None)

        try:
            for link in dict(self._fleet.links).values():
                channels.append(link.channel("changes"))
                threading.Thread(target=listen, args=(channels[-1],), daemon=True).start()
            while channels and (lease_id := heard.get()) is not None:
                yield lease_id
        finally:
            for channel in channels:
                channel.close()

    # ------------------------------------------------------------------ a running lease

    def logs(
        self,
        lease_id: str,
        service: str,
        number: int = 0,
        *,
        follow: bool = False,
        tail: int = 1000,
    ) -> Output:
        """See `lease.LeaseRunner`."""
        return Printed(
            self._fleet.at(
                self._where(lease_id).machine,
                lambda link: link.channel(
                    "logs", **placed(lease_id, service, number), follow=follow, tail=tail
                ),
            )
        )

    def exec(
        self, lease_id: str, service: str, command: tuple[str, ...], number: int = 0, *, tty: bool
    ) -> Shell:
        """See `lease.LeaseRunner`."""
        machine = self._where(lease_id).machine
        self._fleet.at(machine, lambda link: link.ask("here"))
        # Not tried twice: it may have begun.
        return self._fleet.link(machine).channel(
            "exec", **placed(lease_id, service, number), command=list(command), tty=tty
        )

    def address(self, lease_id: str, service: str, port: Port, number: int = 0) -> tuple[str, int]:
        """See `lease.LeaseRunner`. It is a port of loopback here, whose connections are carried to
        the container. Raises RunnerError for UDP, which is not carried.
        """
        if port.protocol != "tcp":
            raise RunnerError(f"{port.number}/{port.protocol}: a fleet carries TCP alone")
        machine = self._where(lease_id).machine
        asked = {**placed(lease_id, service, number), "port": dict(vars(port))}
        self._fleet.at(machine, lambda link: link.ask("address", **asked))  # whether it runs
        key = (lease_id, service, number, port)
        with self._lock:
            if key not in self._relays:
                self._relays[key] = Relay(
                    lambda: self._fleet.at(machine, lambda link: link.channel("connect", **asked))
                )
            return self._relays[key].place

    def _close_relays(self, lease_id: str) -> None:
        with self._lock:
            ended = [key for key in self._relays if key[0] == lease_id]
            relays = [self._relays.pop(key) for key in ended]
        for relay in relays:
            relay.close()

    def _where(self, lease_id: str) -> Placed:
        """Where a lease is. Raises RunnerError when it is nowhere."""
        found = self._book.find(lease_id)
        if found is None:
            raise RunnerError(f"there is no lease {lease_id}; prepare it first")
        return found


def _device(value: Mapping[str, Any]) -> Device:
    return Device(**{**value, "caps": tuple(value["caps"])})
