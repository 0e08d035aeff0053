# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a file, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from teraproof.errors import LocalError, counted
from teraproof.protocol.errors import Code

MOST = 100  # faults that are kept of one file


@dataclass(frozen=True, order=True)
class Place:
    """A place in a file: line and column from 1, and the path of the field there."""

    line: int
    column: int
    path: str = ""

    def below(self, name: str) -> str:
        """The path of a field of the mapping at this place."""
        return f"{self.path}.{name}" if self.path else name

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}"
        return f"{where}: {self.path}" if self.path else where


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong. `code` tells what is not valid from what is not sold."""

    place: Place
    reason: str
    code: Code = Code.SDL_INVALID

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return self.placed() | {"code": self.code.value}

    def placed(self) -> dict[str, Any]:
        """The same without the code."""
        return {
            "line": self.place.line,
            "column": self.place.column,
            "path": self.place.path,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class SdlError(LocalError):
    """A file is not one that can be leased by. `faults` are all that were found, in its order."""

    default: ClassVar[Code] = Code.SDL_INVALID

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        first, more = self.faults[0], len(self.faults) - 1
        tail = f" (and {counted(more, 'more fault')})" if more else ""
        unsold = all(fault.code is Code.SDL_UNSUPPORTED for fault in self.faults)
        super().__init__(
            f"{first}{tail}",
            Code.SDL_UNSUPPORTED if unsold else Code.SDL_INVALID,
            faults=[fault.to_json() for fault in self.faults],
        )


class Book:
    """Collects faults while a file is read, and what a person should know of it."""

    def __init__(self) -> None:
        self._faults: dict[Fault, None] = {}
        self._notices: dict[Fault, None] = {}

    def fault(self, place: Place, reason: str, code: Code = Code.SDL_INVALID) -> None:
        """Note what is wrong, once; beyond `MOST` nothing more."""
        if len(self._faults) < MOST:
            self._faults.setdefault(Fault(place, reason, code))

    def refuse(self, place: Place, reason: str) -> None:
        """Note what is valid, but not sold here; `reason` names what to do instead."""
        self.fault(place, reason, Code.SDL_UNSUPPORTED)

    def notice(self, place: Place, text: str) -> None:
        """Note what is read in another way than a person may expect."""
        if len(self._notices) < MOST:
            self._notices.setdefault(Fault(place, text))

    @property
    def faults(self) -> Sequence[Fault]:
        """Everything noted so far, in the order of the file."""
        return sorted(self._faults)

    @property
    def notices(self) -> Sequence[Fault]:
        """What a person should know, in the order of the file."""
        return sorted(self._notices)

    @property
    def valid(self) -> bool:
        """Whether nothing invalid was found; what is not sold may have been."""
        return all(fault.code is Code.SDL_UNSUPPORTED for fault in self._faults)
