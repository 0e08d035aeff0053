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
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

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
)
from provider_agent.runners.lease_json import to_json
from provider_agent.runners.ray import pipe, wire
from provider_agent.runners.ray.book import Book, Placed
from provider_agent.runners.ray.cluster import Terms
from provider_agent.runners.ray.keeper import Keeper
from provider_agent.runners.ray.link import Channel, Link, Printed, placed
from provider_agent.runners.ray.machines import Fleet
from provider_agent.runners.ray.node import named
from provider_agent.runners.ray.places import Places, errors
from provider_agent.runners.ray.relay import Relays
from provider_agent.runners.ray.rooms import Machine
from provider_agent.runners.ray.shelf_client import FarShelf
from provider_agent.runners.shelves import Shelf
from teraproof.errors import Refused
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_SECONDS = 20.0  # for an answer
_LIST_SECONDS = 5.0
_STOP_SECONDS = 120.0
_CHECK_SECONDS = 120.0
_PREPARE_SECONDS = 7200.0  # images
_SQUARE_SECONDS = 3.0
_FETCHED = 512  # fetches that are remembered


class RayRunner:
    """See the module. `data_dir` is the agent's."""

    def __init__(self, data_dir: Path, terms: Terms, *, seconds: float = _SECONDS) -> None:
        self._place = place = data_dir.absolute() / "fleet"
        self._terms = terms
        self._fleet = Fleet(terms, place, seconds)
        self._keeper = Keeper()
        self._places = Places(Book(place / "leases"), self._fleet, self.needs, self._keeper.knows)
        self._relays = Relays()
        self._locks = Locks()
        self._bounds: dict[str, Mapping[str, int]] = {}
        self._fetched: OrderedDict[str, frozenset[str]] = OrderedDict()
        #: The machines that have answered `keep` lately.
        self.seen: tuple[Machine, ...] = ()

    def close(self) -> None:
        """Lets go of the cluster. All leases go on."""
        self._relays.close()
        self._keeper.close()
        self._fleet.close()

    # ------------------------------------------------------------------ the fleet

    def machines(self) -> tuple[Machine, ...]:
        """All machines that answer, sorted by name: what they have, and what is free."""
        self._fleet.look()
        answers = self._fleet.each(lambda link: link.ask("devices"))
        return tuple(self._places.machine(name, said) for name, said in sorted(answers.items()))

    def prefer(self, machines: Mapping[str, str]) -> None:
        """Put leases that are not placed yet on these machines, if that can be done."""
        self._places.prefer(machines)

    def bound(self, lease_id: str, most: Mapping[str, int] | None) -> None:
        """Let images that are fetched for a lease take no more than these bytes, by machine; of one
        that is not named none. None: as many as `fetch` says.
        """
        if most is None:
            self._bounds.pop(lease_id, None)
        else:
            self._bounds[lease_id] = most

    def having(self, lease_id: str) -> frozenset[str] | None:
        """The machines that got the images of a lease when they were fetched last; None where that
        is not known.
        """
        return self._fetched.get(lease_id)

    def where(self) -> dict[str, str]:
        """The machine of each lease that has one."""
        return self._places.where()

    def challenger(self, lease_id: str) -> tuple[str, ...]:
        """The command of a worker for challenges of a lease, which runs on its machine. Refused
        while that is away.
        """
        found = self._places.find(lease_id)
        link = None if found is None else self._fleet.links.get(found.machine)
        if link is None:
            line = "the machine of this lease does not answer its provider; try later"
            raise Refused(Code.CONTAINERS_AWAY, line)
        return pipe.command(self._place, link.contact)

    # ------------------------------------------------------------------ before a lease

    def check(self) -> str:
        """See `lease.LeaseRunner`."""
        self._terms.check()
        self._fleet.look(_CHECK_SECONDS)
        if not self._fleet.links and self._fleet.faults:
            raise self._fleet.nobody()
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

    @property
    def faults(self) -> tuple[str, ...]:
        """Why there are not more machines, one line each."""
        return tuple(f"{name}: {fault}" for name, fault in sorted(self._fleet.faults.items()))

    def resolve(self, image: str, credentials: Credentials | None = None) -> str:
        """See `lease.LeaseRunner`."""
        given = wire.credentials_to_json({"": credentials} if credentials else None)
        return str(
            self._fleet.anywhere(lambda link: link.ask("resolve", image=image, credentials=given))
        )

    def needs(self, lease: Lease) -> Taken:
        """See `lease.LeaseRunner`. Asks nobody."""
        return cast("Taken", named(self._terms.needs)(lease))

    # ------------------------------------------------------------------ images

    def fetch(
        self,
        lease: Lease,
        credentials: Mapping[str, Credentials] | None = None,
        *,
        most: int,
        seconds: float,
    ) -> None:
        """See `lease.LeaseRunner`. To every machine that is large enough: which one has room when
        the lease comes is not known, and one that waits for a registry then is not ready in time.
        """
        found = self._places.find(lease.lease_id)
        if found is None:
            self._fleet.look()
            machines = self._places.large_enough(lease)
        else:
            machines = [found.machine]
        asked = {
            "lease": to_json(lease),
            "credentials": wire.credentials_to_json(credentials),
            "seconds": seconds,
        }
        bounds = self._bounds.get(lease.lease_id)

        def fetched(link: Link) -> None:
            mine = most if bounds is None else min(most, bounds.get(link.machine, 0))
            link.ask("fetch", within=seconds + _SECONDS, most=mine, **asked)

        said = self._fleet.all(fetched, machines)
        came = frozenset(name for name, one in said.items() if not isinstance(one, Exception))
        self._fetched[lease.lease_id] = came
        self._fetched.move_to_end(lease.lease_id)
        while len(self._fetched) > _FETCHED:
            self._fetched.popitem(last=False)
        if came:
            return
        raise next(iter(errors(said)), self._fleet.nobody())

    def arrival(self, lease_id: str) -> Arrival | None:
        """See `lease.LeaseRunner`. The machine that is farthest; waits for them, for a moment."""
        said = self._fleet.each(
            lambda link: link.ask("arrival", lease=lease_id), self._machines_of(lease_id)
        )
        found = [Arrival(**one) for one in said.values() if one is not None]
        return max(found, key=lambda one: (one.here, one.received), default=None)

    def give_up(self, lease_id: str) -> None:
        """See `lease.LeaseRunner`."""
        found = self._places.find(lease_id)
        said = self._fleet.all(
            lambda link: link.ask("give_up", lease=lease_id), self._machines_of(lease_id)
        )
        for error in errors(said):
            raise error
        if found is not None and not said[found.machine]:
            with self._locks.held(lease_id):
                self._places.gone(lease_id)

    def _machines_of(self, lease_id: str) -> list[str] | None:
        """Where something of a lease can be: None for anywhere."""
        found = self._places.find(lease_id)
        return None if found is None else [found.machine]

    def image_room(self) -> ImageRoom:
        """See `lease.LeaseRunner`. Nothing of the agent's disk: each machine has its own, and what
        images take of it is counted there (`machines`).
        """
        return ImageRoom()

    def free_images(self, size: int) -> int:
        """See `lease.LeaseRunner`. On each machine: another one's room is of no use to it."""
        said = self._fleet.each(lambda link: int(link.ask("free_images", size=size)))
        return sum(said.values())

    # ------------------------------------------------------------------ the life of a lease

    def prepare(self, lease: Lease, credentials: Mapping[str, Credentials] | None = None) -> None:
        """See `lease.LeaseRunner`."""
        with self._locks.held(lease.lease_id):
            machine = self._places.placed(lease).machine
        given = wire.credentials_to_json(credentials)
        self._fleet.at(
            machine,
            lambda link: link.ask(
                "prepare", within=_PREPARE_SECONDS, lease=to_json(lease), credentials=given
            ),
        )

    def prepared(self, lease_id: str) -> Lease | None:
        """See `lease.LeaseRunner`. As it was asked for: its machine chooses GPUs without names."""
        found = self._places.find(lease_id)
        return None if found is None else found.lease

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
        self._relays.close(lease_id)
        found = self._places.find(lease_id)
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
        self._places.gone(lease_id)

    def list(self) -> tuple[str, ...]:
        """See `lease.LeaseRunner`. What is on machines that are away and was never written down
        here is missing.
        """
        with suppress(RunnerError):
            self._fleet.look_aside()
        late = self._keeper.late()
        said = self._fleet.all(
            lambda link: link.ask("list", within=_LIST_SECONDS), self._fleet.links.keys() - late
        )
        there = {lease_id for one in said.values() if isinstance(one, list) for lease_id in one}
        there.update(*late.values())
        return tuple(sorted(there | set(self._places.where())))

    def keep(self, wanted: Collection[str]) -> Mapping[str, LeaseState]:
        """See `lease.LeaseRunner`. Raises where no machine answers. One that takes long holds up
        no other: what it said last is good for a moment.
        """
        try:
            self._fleet.look_aside()
        except RunnerError as error:
            # Machines answer without Ray: it only places.
            log.warning("fleet: %s", error)
        where = self._places.where()
        words = self._keeper.keep(dict(self._fleet.links), wanted, where, self._fleet.addresses)
        states: dict[str, LeaseState] = {}
        for name, word in words.items():
            for one in word.said["states"]:
                if where.get(one["lease_id"], name) == name:
                    states[one["lease_id"]] = wire.state_from_json(one)
            if word.is_new:
                for lease_id, machine in where.items():
                    if machine == name and lease_id not in {*word.wanted, *word.said["left"]}:
                        self._relays.close(lease_id)
                        self._places.forget(lease_id)  # Ray gives back what it holds below
        if not words and set(wanted) & set(where):
            raise self._fleet.nobody()
        self._fleet.aside.run(lambda: self._places.square(wanted), _SQUARE_SECONDS)
        self.seen = tuple(
            self._places.machine(name, word.said)
            for name, word in sorted(words.items())
            if name in self._fleet.survey.contacts
        )
        return states

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

        def dial() -> Channel:
            return self._fleet.at(machine, lambda link: link.channel("connect", **asked))

        return self._relays.place(lease_id, service, number, port, dial)

    def shelf(self, lease_id: str, service: str, volume: str, inside: str, most: int) -> Shelf:
        """See `shelves.FarShelves`."""
        machine = self._where(lease_id).machine
        asked = {"of": service, "volume": volume, "inside": inside, "most": most}

        def dial() -> Channel:
            # Not of a service: what strangers open there takes no place of this.
            return self._fleet.at(
                machine, lambda link: link.channel("shelf", **placed(lease_id, "", 0), **asked)
            )

        return FarShelf(machine, dial)

    def _where(self, lease_id: str) -> Placed:
        """Where a lease is. Raises RunnerError when it is nowhere."""
        found = self._places.find(lease_id)
        if found is None:
            raise RunnerError(f"there is no lease {lease_id}; prepare it first")
        return found
