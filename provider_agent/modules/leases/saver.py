# SPDX-License-Identifier: Apache-2.0
"""Saves the checkpoints of one lease: at intervals, and where its tenant asks for one now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

from teraproof.errors import TeraproofError
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.storage.checkpoints import Writer

log = logging.getLogger(__name__)

_REST = 9.0  # of what a save took, until the next one: a lease has a tenth of a processor at most
_AFTER_FAULT = 10.0  # seconds from a save that failed to one that is asked for
Turn = Callable[[], AbstractContextManager[None]]


class Owner(Protocol):
    """What keeps the checkpoints of all leases; `checkpoints.LeaseCheckpoints`."""

    def writing(self, name: str, spec: LeaseSpec, turn: Turn) -> AbstractContextManager[Writer]:
        """The writer of a lease."""
        ...

    def turn(self, name: str, stopped: threading.Event) -> AbstractContextManager[None]:
        """A place among the leases whose volumes are read at this moment."""
        ...

    def saved(self, name: str, checkpoint: str) -> None:
        """A checkpoint is in its store."""
        ...

    def say(self, name: str, trouble: str) -> None:
        """Have the tenant hear why nothing is saved."""
        ...


class Progress(NamedTuple):
    """How far a save is that was asked for."""

    save: int
    done: bool
    failed: bool


class Saver(threading.Thread):
    """Saves one lease. A tenant's store that hangs holds up nothing else."""

    def __init__(self, owner: Owner, name: str, spec: LeaseSpec) -> None:
        super().__init__(name=f"checkpoints of {name[:12]}", daemon=True)
        assert spec.checkpoints is not None
        self._owner, self._lease, self._spec = owner, name, spec
        self._every = self._pause = float(spec.checkpoints.every_seconds)
        self._rest = 0.0  # before the next save, whoever asks for it
        self._waited = 0.0
        self.stopped = threading.Event()
        self._woken = threading.Condition()
        self._is_asked = self._has_ended = False
        self._begun = self._done = self._failed = 0  # numbers of saves

    def stop(self) -> None:
        """Begin no more."""
        self.stopped.set()
        with self._woken:
            self._woken.notify_all()

    def ask(self, save: int) -> Progress:
        """Have save number `save` be made soon; 0, or one that is too far ahead: the next one. Any
        thread.
        """
        with self._woken:
            if not 0 < save <= self._begun + 1:
                save = self._begun + 1
            if save > self._begun and not self._is_asked:
                self._is_asked = True
                self._woken.notify_all()
            failed = save <= self._failed or self._has_ended
            return Progress(save, done=save <= self._done, failed=failed)

    def run(self) -> None:
        """See `_saves`."""
        try:
            self._saves()
        finally:
            with self._woken:
                self._has_ended = True

    def _saves(self) -> None:
        """Until it is stopped, or another writer has taken over. After anything that goes wrong the
        store is opened again: its tenant may have sent what opens it now.
        """
        while self._rests():
            try:
                with self._owner.writing(self._lease, self._spec, self._turn) as writer:
                    self._save(writer)
            except (TeraproofError, OSError) as error:
                if self.stopped.is_set():
                    return
                self._owner.say(self._lease, str(error))
                self._fails()
                if isinstance(error, TeraproofError) and error.code is Code.CHECKPOINTS_TAKEN:
                    return
            except Exception:  # a bug, or a library's: the next try may be well
                log.exception("lease %s: its checkpoint", self._lease[:12])
                self._owner.say(self._lease, "went wrong; the log of its provider says how")
                self._fails()

    def _rests(self) -> bool:
        """Wait until a save is due, and begin it: at its interval, or after its rest where somebody
        asks. Whether one begins.
        """
        began = time.monotonic()
        with self._woken:
            while not self.stopped.is_set():
                wait = self._rest if self._is_asked else self._pause
                left = began + wait - time.monotonic()
                if left <= 0:
                    self._begun += 1
                    self._is_asked = False
                    return True
                self._woken.wait(left)
        return False

    def _fails(self) -> None:
        with self._woken:
            self._failed = self._begun
        self._rest = max(self._rest, _AFTER_FAULT)

    def _save(self, writer: Writer) -> None:
        """At intervals, while it goes well."""
        while True:
            began, self._waited = time.monotonic(), 0.0
            try:
                saved = writer.save()
            finally:
                took = time.monotonic() - began - self._waited
                self._rest = _REST * took
                self._pause = max(self._every, self._rest)
            self._owner.saved(self._lease, str(saved.checkpoint))
            with self._woken:
                self._done = self._begun
            if not self._rests():
                return

    @contextmanager
    def _turn(self) -> Iterator[None]:
        began = time.monotonic()
        with self._owner.turn(self._lease, self.stopped):
            self._waited = time.monotonic() - began
            yield
