# SPDX-License-Identifier: Apache-2.0
"""Directories that checkpoints become."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from teraproof.protocol.digests import Entry
from teraproof.storage.disk import faults, sync_names
from teraproof.storage.objects import Named
from teraproof.storage.parts import Part, part_of
from teraproof.trees import is_entry, keep_only


class Target(Protocol):
    """A directory that appears when all of it is there, here or on another machine. What a broken
    or killed call has got is used by the next one. LocalError when it is not kept.
    """

    def missing(self, listed: Sequence[Entry]) -> Iterator[Entry]:
        """The files of these that are not there yet. What is of no such file is removed."""
        ...

    def part(self, entry: Entry) -> AbstractContextManager[Part]:
        """The beginning of a file that is missing."""
        ...

    def appear(self) -> None:
        """All files are there."""
        ...


class Tree:
    """See `Target`. Until it appears, its parts are in `<directory>.partial`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._partial = directory.with_name(directory.name + ".partial")
        self._files, self._parts = self._partial / "files", self._partial / "parts"

    def missing(self, listed: Sequence[Entry]) -> Iterator[Entry]:
        """See `Target`."""
        with faults(self._partial):
            keep_only(self._files, {entry.path for entry in listed})
            for folder in (self._files, self._parts):
                folder.mkdir(parents=True, exist_ok=True)
            for entry in listed:
                if not is_entry(self._files / entry.path, entry):
                    yield entry

    def part(self, entry: Entry) -> AbstractContextManager[Part]:
        """See `Target`."""
        target, named = self._files / entry.path, Named(entry.sha256, entry.size)
        with faults(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        return part_of(self._parts / f"{entry.sha256}.part", named, target)

    def appear(self) -> None:
        """See `Target`."""
        with faults(self._partial):
            self._files.replace(self._directory)
            sync_names(self._directory.parent.absolute())
            shutil.rmtree(self._partial)
