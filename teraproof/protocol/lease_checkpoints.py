# SPDX-License-Identifier: Apache-2.0
"""What a lease specification says of checkpoints, and what is said of one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from teraproof.protocol.documents import Form

_MOST_SAVES = 2**53 - 1
_MOST_TEXT = 2_000


@dataclass(frozen=True)
class Checkpoints:
    """What the provider saves at intervals, in the tenant's own store, and begins with again."""

    service: str
    """It has one replica."""
    path: str
    """A directory of it: a volume that it may write to, or one below."""
    uri: str
    """s3://bucket/prefix. What opens it is not in the specification."""
    every_seconds: int
    keep: int = 3
    """How many stay."""

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return dict(vars(self))


@dataclass(frozen=True)
class AskedSave:
    """A checkpoint that the tenant has asked for, as its agent has it."""

    save: int
    """Its number, by which it is asked for again: what begins after the first request has it."""
    done: bool = False
    """Whether it, or a later one, is in the store."""
    checkpoint: str = ""
    """The newest one then."""
    trouble: str = ""
    """Why it failed, if it did."""

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, document: Any) -> AskedSave:
        """The inverse. SpecError is one line that names the field."""
        ASKED_SAVE.check(document)
        return cls(**{name: document[name] for name in ("save", "done", "checkpoint", "trouble")})


def _text(said: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": _MOST_TEXT, "description": said}


ASKED_SAVE_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["save", "done", "checkpoint", "trouble"],
    "properties": {
        "save": {
            "type": "integer",
            "minimum": 1,
            "maximum": _MOST_SAVES,
            "description": "a number from 1 on",
        },
        "done": {"type": "boolean", "description": "true or false"},
        "checkpoint": _text("the name of a checkpoint"),
        "trouble": _text("text of at most 2000 characters"),
    },
}
ASKED_SAVE = Form("checkpoint that was asked for", ASKED_SAVE_SCHEMA, 64 << 10, instead="ask again")
