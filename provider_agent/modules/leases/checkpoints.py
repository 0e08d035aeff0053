# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of leases: what a lease names is saved in its tenant's store, and begun with again.

<data_dir>/lease-checkpoints/<lease>/
    access.json   what opens the store, as its tenant has sent it; it goes with the lease
    writer/       what is remembered of the destination, and copies on their way

Before its first start a lease becomes the writer of its destination, and gets the newest checkpoint
that is whole. So a provider that was thought dead saves nothing that its successor does not have.
What is in a volume already is never overwritten.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from provider_agent import durable
from provider_agent.modules.leases.laying_out import newest
from provider_agent.modules.leases.leash import Ending, Leash
from provider_agent.modules.leases.saver import Saver
from provider_agent.runners.shelf import NearShelf
from provider_agent.runners.shelves import FarShelves, Shelf, Shelves
from teraproof.errors import LocalError, Refused, TeraproofError
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.lease_checkpoints import AskedSave, Checkpoints
from teraproof.protocol.lease_wire import MOST_TEXT
from teraproof.protocol.leasespec import LeaseSpec, Volume
from teraproof.storage.access import Access
from teraproof.storage.checkpoints import Writer
from teraproof.storage.layout import Checkpoint, Destination
from teraproof.storage.limits import Limits
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import open_store
from teraproof.storage.uris import parse

log = logging.getLogger(__name__)

FOLDER = "lease-checkpoints"
_ACCESS, _WRITER, _COPIES = "access.json", "writer", "stage"
_AT_ONCE = 8  # leases whose volumes are read at one moment
_LONG_WAIT = 30.0  # seconds that a lease waits for that until it is said
_MOST_FETCH = 3_600.0  # seconds that a lease is waited for which fetches what it begins with
_LEAST_RATE = 256 << 10  # bytes per second: what is slower is broken off
_MOMENT = 2.0  # seconds that a worker waits for a lease to begin
_PATIENCE = 5.0  # seconds in which what is under way ends with the agent
# What a store and those who write there cause, and not the disk of this machine:
_TENANTS = frozenset(
    {
        Code.STORE_REFUSED,
        Code.STORE_UNREACHABLE,
        Code.TOO_SLOW,
        Code.URI_REFUSED,
        Code.OBJECT_MISSING,
        Code.DIGEST_MISMATCH,
        Code.LIMIT_EXCEEDED,
        Code.PATH_UNFIT,
        Code.CHECKPOINT_DAMAGED,
        Code.CHECKPOINT_MISSING,
        Code.CHECKPOINTS_TAKEN,
    }
)
Turn = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Kept:
    """How the checkpoints of a lease are. `at`: unix seconds of the last look, 0 before."""

    checkpoint: str = ""
    at: int = 0
    trouble: str = ""


class LeaseCheckpoints:
    """See the module. `prepare` and `give` are for any thread, the others for the loop's."""

    def __init__(self, shelves: object, data_dir: Path, reach: Reach, *, wanted: bool) -> None:
        self._shelves = shelves if isinstance(shelves, Shelves | FarShelves) else None
        self._place, self._reach = data_dir / FOLDER, reach
        self._is_wanted = wanted
        self._savers: dict[str, Saver] = {}
        self._kept: dict[str, Kept] = {}
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._endings: dict[str, Ending] = {}
        self._beginners: dict[str, _Beginner] = {}

    @property
    def offered(self) -> bool:
        """Whether leases with checkpoints are taken."""
        found = importlib.util.find_spec("boto3") is not None
        return self._is_wanted and found and self._shelves is not None

    def kept(self, name: str) -> Kept:
        """How the checkpoints of a lease are."""
        return self._kept.get(name, Kept())

    # ------------------------------------------------------------------ before the first start

    def give(self, name: str, values: Mapping[str, str]) -> None:
        """Keep what opens the store of a lease. Refused for what cannot be it."""
        try:
            access = Access.of(values, "store")
            if access.endpoint is not None:
                self._reach.check(access.endpoint)
        except LocalError as error:
            raise Refused(Code.FIELD_INVALID, str(error), field="store") from None
        folder = self._folder(name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = folder / "access.new"
        made.touch(mode=0o600)
        made.write_text(json.dumps(access.values()))
        durable.sync(made)
        made.replace(folder / _ACCESS)
        durable.sync_directory(folder)

    def prepare(self, name: str, spec: LeaseSpec, over: Callable[[], None]) -> None:
        """Have `begin` be done, apart from other leases: a store may take its time, and that is its
        tenant's. LocalError until it is over, which `over` hears. Then what `begin` raises.
        """
        if spec.checkpoints is None:
            return
        with self._lock:
            one = self._beginners.get(name)
            if one is None:
                one = self._beginners[name] = _Beginner(self, name, spec, over)
                one.start()
        one.join(_MOMENT)
        if one.is_alive():
            one.is_late = True
            if time.monotonic() - one.since > _MOST_FETCH:
                line = "its newest checkpoint does not come in time; its store is too slow"
                raise Refused(Code.TOO_SLOW, line)
            raise LocalError("its newest checkpoint is on its way", Code.NOT_READY)
        with self._lock:
            self._beginners.pop(name, None)
        if one.error is not None:
            raise one.error

    def begin(self, name: str, spec: LeaseSpec) -> None:
        """Have a lease that was never started begin with the newest checkpoint that is whole. It is
        given up when the lease ends.

        Refused while its tenant has not said what opens the store, for what the store says, and
        where the checkpoints are damaged: it never begins from nothing where something was saved.
        Only the tenant can change that. LocalError or OSError: this machine's disk.
        """
        try:
            self._begin(name, spec)
        except LocalError as error:
            if isinstance(error, Refused) or error.code not in _TENANTS:
                raise
            raise Refused(error.code, str(error)) from None

    def _begin(self, name: str, spec: LeaseSpec) -> None:
        if spec.checkpoints is None:
            return
        shelf, ending = self._shelf(name, spec), self._ending(name)
        with ending.breaks_off(shelf):
            try:
                standing = shelf.look()
                if standing.has_begun:
                    return
                with self._opened(name, spec, ending) as destination:
                    self._writer(name, spec, destination, shelf).close()
                    resumed = None
                    if not standing.is_whole:  # a killed agent's: it appeared when it was verified
                        resumed = self._fetched(destination, shelf, standing.is_bounded)
                shelf.begin()
            finally:
                shelf.rest()
        if resumed is not None:
            self._kept[name] = Kept(str(resumed))
            log.info("lease %s begins with checkpoint %s", name[:12], resumed)

    def _fetched(
        self, destination: Destination, shelf: Shelf, is_bounded: bool
    ) -> Checkpoint | None:
        try:
            return newest(destination, shelf)
        except LocalError as error:
            if error.code is Code.DISK_FULL and is_bounded:
                line = "its newest checkpoint does not fit in its volume; hire a larger one"
                raise Refused(Code.LIMIT_EXCEEDED, line) from None
            raise

    # ------------------------------------------------------------------ while it runs

    def keep(self, running: Mapping[str, LeaseSpec], ours: Collection[str] | None) -> None:
        """Save what runs, and nothing else. Of leases that are not among `ours`, where these are
        known, nothing stays.
        """
        for name, spec in running.items():
            known = self._savers.get(name)
            if known is None and spec.checkpoints is not None:
                self._savers[name] = saver = Saver(self, name, spec)
                saver.start()
        for name in self._savers.keys() - running.keys():
            self._savers.pop(name).stop()
        if ours is None:
            return
        for place in self._place.glob("*/"):
            if place.name not in ours:
                self.forget(place.name)

    def forget(self, name: str) -> None:
        """A lease has ended: so has what was kept of it, also what opens its store."""
        saver = self._savers.pop(name, None)
        if saver is not None:
            saver.stop()
        with self._lock:
            self._beginners.pop(name, None)
            ending = self._endings.pop(name, None)
        if ending is not None:
            ending.set()
        self._kept.pop(name, None)
        shutil.rmtree(self._folder(name), ignore_errors=True)

    def close(self) -> None:
        """The agent ends: what is saved now is broken off, and done again later."""
        for saver in self._savers.values():
            saver.stop()
        with self._lock:
            endings = list(self._endings.values())
        for ending in endings:
            ending.set()
        end = time.monotonic() + _PATIENCE
        for saver in self._savers.values():
            saver.join(max(0.0, end - time.monotonic()))

    @contextmanager
    def writing(self, name: str, spec: LeaseSpec, turn: Turn) -> Iterator[Writer]:
        """The writer of a lease, with what opens its store today. `turn` is held while it reads the
        volume.
        """
        shelf, ending = self._shelf(name, spec), self._ending(name)
        with ending.breaks_off(shelf), self._opened(name, spec, ending) as destination:
            try:
                with closing(self._writer(name, spec, destination, shelf, turn)) as writer:
                    yield writer
            finally:
                shelf.rest()

    @contextmanager
    def turn(self, name: str, stopped: threading.Event) -> Iterator[None]:
        """A place among the leases whose volumes are read at this moment. Whoever waits for it long
        hears so, and waits on.
        """
        began = time.monotonic()
        while not self._turns.acquire(timeout=_MOMENT):
            if stopped.is_set():
                raise LocalError("it runs no more", Code.NOT_READY)
            if time.monotonic() - began > _LONG_WAIT:
                self.say(name, "waits for others whose files are read now")
        try:
            yield
        finally:
            self._turns.release()

    def ask(self, name: str, save: int = 0) -> AskedSave:
        """Have a lease be saved as soon as its rest is over, and not at its interval; how far that
        is. `save` is the number that an earlier request has got; 0: a save that has not begun.

        Refused while it is not saved at all.
        """
        saver = self._savers.get(name)
        if saver is None:
            raise Refused(Code.AGENT_NOT_READY, "the lease does not run now, so nothing is saved")
        asked, kept = saver.ask(save), self.kept(name)
        trouble = one_line(kept.trouble or "nothing is saved any more", MOST_TEXT)
        return AskedSave(
            asked.save,
            done=asked.done,
            checkpoint=kept.checkpoint,
            trouble=trouble if asked.failed and not asked.done else "",
        )

    def saved(self, name: str, checkpoint: str) -> None:
        """A checkpoint is in its store."""
        if name in self._savers:
            self._kept[name] = Kept(checkpoint, int(time.time()))

    def say(self, name: str, trouble: str) -> None:
        """Have the tenant hear why nothing is saved."""
        if name not in self._savers:
            return  # it has ended meanwhile
        before = self.kept(name)
        if before.trouble != trouble:
            log.warning("lease %s: no checkpoint: %s", name[:12], trouble)
        self._kept[name] = replace(before, trouble=trouble)

    # ------------------------------------------------------------------ parts

    def _folder(self, name: str) -> Path:
        return self._place / name

    def _ending(self, name: str) -> Ending:
        with self._lock:
            return self._endings.setdefault(name, Ending())

    def _shelf(self, name: str, spec: LeaseSpec) -> Shelf:
        wanted, (volume, inside) = _saved(spec)
        if isinstance(self._shelves, Shelves):
            place = self._shelves.directory(name, wanted.service, volume.name)
            copies = self._folder(name) / _WRITER / _COPIES
            return NearShelf(place, inside, copies, volume.bytes)
        if self._shelves is None:
            line = "this provider saves no checkpoints of leases"
            raise Refused(Code.CHECKPOINTS_NOT_OFFERED, line)
        return self._shelves.shelf(name, wanted.service, volume.name, inside, volume.bytes)

    @contextmanager
    def _opened(self, name: str, spec: LeaseSpec, ending: Ending) -> Iterator[Destination]:
        wanted, (volume, _) = _saved(spec)
        try:
            values = json.loads((self._folder(name) / _ACCESS).read_text())
        except (OSError, ValueError):
            line = "waiting for what opens the store of its checkpoints"
            raise Refused(Code.LOGINS_MISSING, line) from None
        limits = Limits(most_bytes=volume.bytes, least_rate=_LEAST_RATE)
        access, own = Access.of(values, "store"), self._reach
        leash = Leash(**vars(own), ended=ending)
        store = open_store(parse(wanted.uri), leash, limits, access)
        with closing(store), ending.breaks_off(store):
            yield Destination(store, limits)

    def _writer(
        self,
        name: str,
        spec: LeaseSpec,
        destination: Destination,
        shelf: Shelf,
        turn: Turn = nullcontext,
    ) -> Writer:
        keep = _saved(spec)[0].keep
        return Writer(destination, shelf, self._folder(name) / _WRITER, keep, turn)


def _saved(spec: LeaseSpec) -> tuple[Checkpoints, tuple[Volume, str]]:
    """What of a lease is saved; that it names something was looked at."""
    wanted, found = spec.checkpoints, spec.saved
    assert wanted is not None and found is not None
    return wanted, found


class _Beginner(threading.Thread):
    """Fetches what a lease begins with. `over` is called if somebody has stopped waiting."""

    def __init__(
        self, owner: LeaseCheckpoints, name: str, spec: LeaseSpec, over: Callable[[], None]
    ) -> None:
        super().__init__(name=f"first checkpoint of {name[:12]}", daemon=True)
        self._owner, self._lease, self._spec, self._over = owner, name, spec, over
        self.since = time.monotonic()
        # Until it is known to be well: nothing begins by a thread that has died.
        self.error: Exception | None = LocalError("was broken off; see the log", Code.NOT_READY)
        self.is_late = False

    def run(self) -> None:
        """Once."""
        try:
            self._owner.begin(self._lease, self._spec)
            self.error = None
        except (TeraproofError, OSError) as error:  # whoever asks next hears it
            self.error = error
        finally:
            if self.is_late:
                self._over()
