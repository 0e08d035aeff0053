# SPDX-License-Identifier: Apache-2.0
"""Which images leases need, from before they are accepted until they have ended.

<data_dir>/fetches/<lease>      the images that a lease has asked for, and which of them are here

The file is written before anything is fetched. An image that a file or a prepared lease names is
not deleted. Those that no lease needs any more stay until the disk is short; the one that was
asked for least lately goes first.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provider_agent.runners.base import check_run_id
from provider_agent.runners.docker.images import Images
from provider_agent.runners.docker.locks import Locks
from provider_agent.runners.docker.space import Space, Work
from provider_agent.runners.lease import Arrival, Credentials, ImageRoom, Lease
from teraproof.errors import TeraproofError


@dataclass(frozen=True)
class _Asked:
    """The images of a lease, and those of them that were fetched for it."""

    images: tuple[str, ...]
    here: tuple[str, ...] = ()


class Fetches:
    """See the module. `prepared` says which images prepared leases need."""

    def __init__(
        self, place: Path, images: Images, space: Space, prepared: Callable[[], set[str]]
    ) -> None:
        self._place, self._images, self._space = place, images, space
        self._prepared = prepared
        self._turns = Locks()
        self._deciding = images.deciding
        self._guard = threading.Lock()
        self._works: dict[Work, str] = {}
        self._closed = False

    # ------------------------------------------------------------------ fetching

    @contextmanager
    def work(self, lease_id: str) -> Iterator[Work]:
        """Work on a lease, which `cut` ends."""
        work = Work()
        with self._guard:
            self._works[work] = lease_id
            if self._closed:
                work.cut.make()
        try:
            yield work
        finally:
            self._space.end(work)
            with self._guard:
                del self._works[work]

    def fetch(
        self,
        work: Work,
        lease: Lease,
        credentials: Mapping[str, Credentials],
        *,
        most: int,
        seconds: float,
        firm: bool,
    ) -> None:
        """Has the images of a lease be here. No registry is asked about those that it has already.

        Raises Refused, EngineAway, and RunnerError with the codes `disk_full` and `image_given_up`.
        """
        wanted: dict[str, Credentials | None] = {}
        for service in lease.services:
            wanted[service.image] = wanted.get(service.image) or credentials.get(service.name)
        work.until = time.monotonic() + seconds
        with self._turns.held(lease.lease_id):
            asked = self._ask_for(work, lease.lease_id, tuple(wanted))
            missing = [one for one in wanted if one not in asked.here or not self._images.has(one)]
            if not missing:
                return
            work.most = most
            self.make_room(most)
            self._space.begin(work, firm=firm)
            for pinned in missing:
                try:
                    self._images.fetch(pinned, wanted[pinned], work)
                except TeraproofError:
                    self._drop(work, lease.lease_id, pinned)
                    raise
                asked = self._add(work, lease.lease_id, pinned)

    def cut(self, lease_id: str) -> None:
        """Breaks off what is under way for a lease."""
        with self._guard:
            works = [work for work, other in self._works.items() if other == lease_id]
        for work in works:
            work.cut.make()

    def close(self) -> None:
        """Breaks off what is under way for any, and what would begin."""
        with self._guard:
            self._closed = True
            works = list(self._works)
        for work in works:
            work.cut.make()

    def under_way(self, lease_id: str) -> bool:
        """Whether any work on a lease is."""
        with self._guard:
            return lease_id in self._works.values()

    def arrival(self, lease_id: str) -> Arrival | None:
        """See `lease.LeaseRunner`."""
        asked = self._find(lease_id)
        if asked is None:
            return None
        with self._guard:
            works = [work for work, other in self._works.items() if other == lease_id]
        return Arrival(
            images=len(asked.images),
            here=len(asked.here),
            received=sum(work.received for work in works),
            expected=sum(work.expected for work in works),
            under_way=bool(works),
            left=self._space.left(works),
        )

    # ------------------------------------------------------------------ what is needed

    def ids(self) -> set[str]:
        """The leases that have asked for images."""
        return {path.name for path in self._place.glob("*") if not path.name.startswith(".")}

    def release(self, lease_id: str) -> None:
        """A lease needs its images no more."""
        with self._deciding:
            asked = self._find(lease_id)
            self._of(lease_id).unlink(missing_ok=True)
            for pinned in () if asked is None else asked.images:
                self._images.touch(pinned)

    def make_room(self, size: int) -> None:
        """Deletes images that no lease needs, until there is room for `size` bytes more."""
        if self._space.has(size):
            return
        with self._deciding:
            for pinned, _ in self._idle():
                self._images.delete(pinned)
                if self._space.has(size):
                    return

    def free(self, size: int) -> int:
        """Deletes images that no lease needs, of `size` bytes or more together; the bytes."""
        freed = 0
        with self._deciding:
            for pinned, each in self._idle():
                if freed >= size:
                    break
                freed += each if self._images.delete(pinned) else 0
        return freed

    def room(self, place: Path) -> ImageRoom:
        """See `lease.LeaseRunner`; `place` is on the agent's disk."""
        if not self._space.is_shared_with(place):
            return ImageRoom()
        with self._deciding:
            known, needed = self._images.known(), self._needed()
        return ImageRoom(
            held=sum(size for pinned, size in known if pinned in needed),
            expected=self._space.expected(),
            idle=sum(size for pinned, size in known if pinned not in needed),
        )

    def _idle(self) -> list[tuple[str, int]]:
        needed = self._needed()
        return [(pinned, size) for pinned, size in self._images.known() if pinned not in needed]

    def _needed(self, without: str = "") -> set[str]:
        found = set(self._prepared())
        for lease_id in self.ids() - {without}:
            asked = self._find(lease_id)
            found.update(() if asked is None else asked.images)
        return found

    # ------------------------------------------------------------------ files

    def _ask_for(self, work: Work, lease_id: str, images: tuple[str, ...]) -> _Asked:
        with self._deciding:
            work.check()
            kept = self._find(lease_id)
            here = tuple(one for one in images if kept is not None and one in kept.here)
            asked = _Asked(images, here)
            self._write(lease_id, asked)
            return asked

    def _add(self, work: Work, lease_id: str, pinned: str) -> _Asked:
        with self._deciding:
            work.check()
            asked = self._find(lease_id) or _Asked((pinned,))
            asked = _Asked(asked.images, (*(one for one in asked.here if one != pinned), pinned))
            self._write(lease_id, asked)
            return asked

    def _drop(self, work: Work, lease_id: str, pinned: str) -> None:
        """What came of an image that cannot be kept is deleted, unless another lease has it."""
        with self._deciding:
            if pinned in work.fetched and pinned not in self._needed(without=lease_id):
                self._images.delete(pinned)

    def _of(self, lease_id: str) -> Path:
        return self._place / check_run_id(lease_id)

    def _find(self, lease_id: str) -> _Asked | None:
        try:
            found = json.loads(self._of(lease_id).read_text())
        except (FileNotFoundError, ValueError):  # not whole after a loss of power
            return None
        return _Asked(tuple(found["images"]), tuple(found["here"]))

    def _write(self, lease_id: str, asked: _Asked) -> None:
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = self._place / f".{lease_id}"
        made.write_text(json.dumps({"images": asked.images, "here": asked.here}))
        made.replace(self._of(lease_id))
