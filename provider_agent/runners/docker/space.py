# SPDX-License-Identifier: Apache-2.0
"""The engine's disk: what is free for images, and what fetches under way may still take of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from pathlib import Path

from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB
from provider_agent.runners.docker.engine import Cut, Engine
from teraproof.protocol.errors import Code

_COUNTLESS = 1 << 62  # a file system that makes inodes as it needs them, or one that is elsewhere


class Work:
    """One fetch of a lease's images under way. `most` bytes may come, unpacked, until the time
    `until` (monotonic). `parts` has for each part of an image the bytes that came, and all of it.
    `fetched` are the images that it began to fetch.
    """

    def __init__(self) -> None:
        self.cut = Cut()
        self.most, self.until = 0, 0.0
        self.parts: dict[str, tuple[int, int]] = {}
        self.fetched: set[str] = set()

    @property
    def received(self) -> int:
        """Bytes that came, as they are packed."""
        return sum(came for came, _ in list(self.parts.values()))

    @property
    def expected(self) -> int:
        """Bytes of all parts that are known so far, as they are packed."""
        return sum(max(part) for part in list(self.parts.values()))

    def check(self) -> None:
        """Raises RunnerError with the code `image_given_up` once it is."""
        if self.cut.made:
            raise RunnerError("the fetch of the images was given up", Code.IMAGE_GIVEN_UP)


class Space:
    """See the module. `reserve` bytes and `inodes` stay free. Safe to use from several threads."""

    def __init__(self, engine: Engine, reserve: int, inodes: int) -> None:
        self._engine, self.reserve, self.inodes = engine, reserve, inodes
        self._root: Path | None = None
        self._lock = threading.Lock()
        self._promised: dict[Work, int] = {}

    @property
    def root(self) -> Path:
        """Where the engine keeps images. Raises EngineAway."""
        if self._root is None:
            self._root = Path(self._engine.get("/info")["DockerRootDir"])
        return self._root

    def is_shared_with(self, place: Path) -> bool:
        """Whether a directory is on the engine's disk."""
        try:
            return os.stat(place).st_dev == os.stat(self.root).st_dev
        except OSError:
            return False

    def begin(self, work: Work, *, firm: bool) -> None:
        """Promises `work.most` bytes. Where there is less, a firm promise raises RunnerError with
        the code `disk_full`; another one is for what there is.
        """
        with self._lock:
            there = self._free()[0] - self.reserve - self._others(work)
            if firm and there < work.most:
                raise _full(f"{work.most // MIB} MiB are not free for images at {self.root}")
            self._promised[work] = max(0, min(work.most, there))

    def end(self, work: Work) -> None:
        """What it did not take is free again."""
        with self._lock:
            self._promised.pop(work, None)

    def check(self, work: Work, what: str) -> None:
        """Raises RunnerError with the code `disk_full` where no more may come: what stays free, or
        what was promised to others, would be touched.
        """
        with self._lock:
            free, inodes = self._free()
            if free < self.reserve + self._others(work):
                raise _full(f"there is no room at {self.root} for {what}")
            if inodes < self.inodes:
                raise _full(f"there are too few inodes at {self.root} for the files of {what}")

    def has(self, size: int) -> bool:
        """Whether there is room for `size` bytes more."""
        with self._lock:
            free, inodes = self._free()
            return free - self.reserve - self._others(None) >= size and inodes >= self.inodes

    def expected(self) -> int:
        """Bytes that fetches under way may still take."""
        with self._lock:
            return self._others(None)

    def left(self, works: Collection[Work]) -> int | None:
        """Bytes that these may still take; None where nothing was promised to any."""
        with self._lock:
            found = [_left(one, self._promised[one]) for one in works if one in self._promised]
        return sum(found) if found else None

    def _others(self, work: Work | None) -> int:
        return sum(_left(one, size) for one, size in self._promised.items() if one is not work)

    def _free(self) -> tuple[int, int]:
        try:
            found = os.statvfs(self.root)
        except OSError:  # an engine elsewhere
            return _COUNTLESS, _COUNTLESS
        inodes = found.f_favail if found.f_files else _COUNTLESS
        return found.f_bavail * found.f_frsize, inodes


def _left(work: Work, size: int) -> int:
    return max(0, min(size, work.most) - work.received)


def _full(line: str) -> RunnerError:
    return RunnerError(f"{line}; make room, or raise what leases may take", Code.DISK_FULL)
