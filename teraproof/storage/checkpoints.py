# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a directory: who writes them, and how one becomes a directory again.

A writer may be killed at any instruction. What it has sent for no checkpoint stands in a journal on
its disk, and is used or removed by the next call. Of two writers the one that began later goes on;
the other one finds out before it adds or removes anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from teraproof.errors import LocalError, counted
from teraproof.locks import MachineLock
from teraproof.protocol.digests import MAX_FILES, Entry, is_hex_digest
from teraproof.protocol.errors import Code
from teraproof.storage.disk import faults, sync_names, write_whole
from teraproof.storage.layout import (
    MANIFESTS,
    MOST_NUMBERS,
    OBJECTS,
    WRITERS,
    Checkpoint,
    Destination,
    check_rows,
    damaged,
    encode,
    used_up,
)
from teraproof.storage.objects import Named, Source
from teraproof.storage.snapshot import Copier, Snapshot, Snapshots
from teraproof.storage.target import Target, Tree
from teraproof.storage.transfer import attempts, receive, send

_STATE, _JOURNAL = "writer.json", "journal"
_OLD_AT_ONCE = 16  # old checkpoints that one call reads and removes
_LINE_BYTES = 66  # of the journal
_AGAIN = 3  # newer checkpoints that may replace the one that is being fetched


@dataclass(frozen=True)
class Saved:
    """What a call has left at the destination."""

    checkpoint: Checkpoint
    files: int
    bytes: int
    sent_objects: int
    sent_bytes: int
    new: bool
    """False: nothing has changed since the newest checkpoint."""


class Writer:
    """Writes checkpoints of `source`, a directory here or what copies one, and keeps the last
    `keep`. What it has to remember, and its own copies, lie below `state`, a directory of its own.
    `turn` is held while the source is read and copied. Use it in one thread; `close` it.
    """

    def __init__(
        self,
        destination: Destination,
        source: Path | Copier,
        state: Path,
        keep: int = 3,
        turn: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        if keep < 1:
            raise LocalError("keep: at least 1 checkpoint", Code.INPUT_INVALID)
        self._to, self._source, self._state, self._keep = destination, source, state, keep
        self._turn = turn
        self._files: dict[str, list[Entry]] = {}  # of checkpoints, by name
        with faults(state):
            state.mkdir(parents=True, exist_ok=True)
        self._lock = MachineLock("checkpoints", state)
        if not self._lock.take():
            raise LocalError(
                f"{state}: another program writes these checkpoints", Code.COMMAND_RUNNING
            )
        try:
            most = destination.limits.most_bytes
            # As much as the index of copies may take, twice over.
            self._most_noted = (most // 8 + (4 << 20)) // _LINE_BYTES
            self._snapshots = (
                Snapshots(source, state / "stage", most) if isinstance(source, Path) else source
            )
            self._epoch = self._enter()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another program write."""
        self._lock.release()

    def save(self) -> Saved:
        """Write a checkpoint of what is there now, unless that is the newest one already.

        LocalError, with CHECKPOINTS_TAKEN when a later writer has begun. Nobody sees a checkpoint
        that is not complete.
        """
        self._check()
        listed = self._to.listed()
        newest = listed[-1] if listed else None
        before = None if newest is None else self._files_of(newest)
        with self._turn():
            taken = self._snapshots.take({entry.sha256 for entry in before or ()})
        check_rows(taken.files)
        self._snapshots.drop(taken.staged)
        total = sum(entry.size for entry in taken.files)
        if newest is not None and before is not None and list(taken.files) == before:
            self._prune()
            return Saved(newest, len(taken.files), total, 0, 0, new=False)
        sent = self._send(taken)
        data = encode(taken.files)
        number = 1 + max([0, *(each.number for each in listed)])
        if number > MOST_NUMBERS:
            raise used_up(self._to.store)
        made = Checkpoint(self._epoch, number, hashlib.sha256(data).hexdigest())
        self._check()
        send(self._to.store, MANIFESTS + made.name, Source.of_bytes(data), self._to.limits)
        self._remember(made.name, list(taken.files))
        self._snapshots.drop()
        self._prune()
        return Saved(made, len(taken.files), total, len(sent), sum(sent), new=True)

    def run(
        self, every: float, stop: threading.Event, told: Callable[[Saved | LocalError], None]
    ) -> None:
        """Save at intervals (seconds) until `stop`, and once more then. An error that may pass is
        told and waits for the next time; another one is raised.
        """
        while True:
            last = stop.is_set()
            try:
                told(self.save())
            except LocalError as error:
                if not error.retryable:
                    raise
                told(error)
            if last:
                return
            stop.wait(every)

    # ---------------------------------------------------------------- sending

    def _send(self, taken: Snapshot) -> list[int]:
        """Have all objects of a snapshot at the destination; the sizes of those that were sent."""
        sizes = {entry.sha256: entry.size for entry in taken.files}
        begun, sent = self._journal(), []
        if not self._is_room(begun | taken.staged):
            self._prune()
            begun = self._journal()
        if not self._is_room(begun | taken.staged):
            raise LocalError(
                f"{self._source}: {len(taken.staged)} new files are more than can be remembered "
                "while they are sent; pack them",
                Code.LIMIT_EXCEEDED,
            )
        self._note(taken.staged - begun)
        for sha256 in sorted(taken.staged):
            key, size = OBJECTS + sha256, sizes[sha256]
            # Only what we have sent ourselves is taken for granted: others' may be on its way out.
            if sha256 in begun and self._size(key) == size:
                continue
            source = self._snapshots.source(Named(sha256, size))
            send(self._to.store, key, source, self._to.limits)
            sent.append(size)
        return sent

    def _size(self, key: str) -> int | None:
        return attempts(lambda: self._to.store.size(key), self._to.limits)

    def _delete(self, key: str) -> None:
        attempts(lambda: self._to.store.delete(key), self._to.limits)

    def _prune(self) -> None:
        """Remove what is older than the last `keep`, and objects that nobody names. What is to be
        removed is written down first, so a killed call is finished by the next one.
        """
        self._check()
        listed = self._to.listed()
        old, kept = listed[: -self._keep][:_OLD_AT_ONCE], listed[-self._keep :]
        noted = self._journal()
        for each in old:  # one by one: there may be many, and each may name many objects
            names = {entry.sha256 for entry in self._files_of(each) or ()} - noted
            if self._is_room(noted | names):
                self._note(names)
                noted |= names
            elif noted:
                break  # a later call has room for its names
            self._delete(MANIFESTS + each.name)
            self._files.pop(each.name, None)
        for each in reversed(kept):
            if not noted:
                break
            files = self._files_of(each)
            if files is None:
                return  # what it names is not known, so nothing that it may name is removed
            noted.difference_update(entry.sha256 for entry in files)
        for sha256 in sorted(noted):
            self._delete(OBJECTS + sha256)
        for epoch in self._to.writers():
            if epoch < self._epoch:
                self._delete(f"{WRITERS}{epoch:06d}")
        with faults(self._state):
            (self._state / _JOURNAL).unlink(missing_ok=True)

    def _files_of(self, checkpoint: Checkpoint) -> list[Entry] | None:
        """Its files; None when it is damaged or has gone."""
        if checkpoint.name not in self._files:
            try:
                files = self._to.files(checkpoint)
            except LocalError as error:
                if error.code not in (Code.OBJECT_MISSING, Code.CHECKPOINT_DAMAGED):
                    raise
                return None
            self._remember(checkpoint.name, files)
            return files
        return self._files[checkpoint.name]

    def _remember(self, name: str, files: list[Entry]) -> None:
        """So that it need not be read again. Of all checkpoints together, as many rows as one has:
        the number of those that stay is what their owner wants.
        """
        self._files[name] = files
        while len(self._files) > 1 and sum(map(len, self._files.values())) > MAX_FILES:
            self._files.pop(next(iter(self._files)))

    def _is_room(self, names: Set[str]) -> bool:
        return len(names) <= self._most_noted

    # ---------------------------------------------------------------- who writes

    def _enter(self) -> int:
        """Our epoch: the one that this state began with, or a new one."""
        place, here = self._state / _STATE, f"{self._to.store.uri}"
        with faults(place):
            try:
                found = json.loads(place.read_bytes())
                if found["destination"] == here and isinstance(found["epoch"], int):
                    return int(found["epoch"])
            except (FileNotFoundError, ValueError, TypeError, KeyError):
                pass
            epoch = self._to.claim()
            (self._state / _JOURNAL).unlink(missing_ok=True)  # it was about another place
            write_whole(place, json.dumps({"destination": here, "epoch": epoch}).encode())
        return epoch

    def _check(self) -> None:
        claimed = self._to.writers()
        if not claimed or claimed[-1] != self._epoch:
            raise LocalError(
                f"{self._to.store.uri}: a later writer has taken over; to write again, use another "
                "state directory",
                Code.CHECKPOINTS_TAKEN,
            )

    # ---------------------------------------------------------------- the journal

    def _journal(self) -> set[str]:
        """Objects that we may have sent, or have to remove, by sha256."""
        with faults(self._state):
            try:
                text = (self._state / _JOURNAL).read_text("ascii", "replace")
            except FileNotFoundError:
                return set()
        return {line for line in text.split("\n") if is_hex_digest(line)}

    def _note(self, names: Iterable[str]) -> None:
        lines = "".join(f"{name}\n" for name in sorted(names))
        if not lines:
            return
        with faults(self._state):
            with (self._state / _JOURNAL).open("a", encoding="ascii") as file:
                file.write("\n" + lines)  # a line that was cut off before stays alone
                file.flush()
                os.fsync(file.fileno())
            sync_names(self._state)


def resume(
    destination: Destination, directory: Path, wanted: str | None = None
) -> tuple[Checkpoint, list[Entry]]:
    """Have the newest complete checkpoint, or that with the number `wanted`, as a new directory. It
    appears when all of it is verified. What a broken or killed call has got is in
    `<directory>.partial`, and is used by the next one.
    """
    if directory.exists():
        raise LocalError(f"{directory}: is there already; name a new directory", Code.INPUT_INVALID)
    return resume_into(destination, Tree(directory), wanted)


def resume_into(
    destination: Destination, target: Target, wanted: str | None = None
) -> tuple[Checkpoint, list[Entry]]:
    """As `resume`, into any target."""
    for attempt in range(1, _AGAIN + 1):
        checkpoint = _chosen(destination, wanted)
        try:
            return checkpoint, _fetch(destination, checkpoint, target)
        except LocalError as error:
            if error.code is not Code.OBJECT_MISSING:
                raise
            # A newer one has replaced it meanwhile, or an object is lost.
            if attempt == _AGAIN or _chosen(destination, wanted) == checkpoint:
                raise damaged(destination.store, checkpoint) from None
    raise AssertionError("unreachable")


def _chosen(destination: Destination, wanted: str | None) -> Checkpoint:
    listed = destination.listed()
    if wanted is not None:
        listed = [each for each in listed if wanted in (str(each), each.name)]
    if not listed:
        what = "no complete checkpoint" if wanted is None else f"no complete checkpoint {wanted}"
        raise LocalError(f"{destination.store.uri}: {what} is there", Code.CHECKPOINT_MISSING)
    return listed[-1]


def _fetch(destination: Destination, checkpoint: Checkpoint, target: Target) -> list[Entry]:
    listed = destination.files(checkpoint)
    total, most = sum(entry.size for entry in listed), destination.limits.most_bytes
    if total > most:
        raise LocalError(
            f"{destination.store.uri}: {counted(total, 'byte')}, more than the {most} allowed",
            Code.LIMIT_EXCEEDED,
        )
    for entry in target.missing(listed):
        named = Named(entry.sha256, entry.size)
        with target.part(entry) as part:
            receive(destination.store, OBJECTS + entry.sha256, named, part, destination.limits)
    target.appear()
    return listed
