# SPDX-License-Identifier: Apache-2.0
"""What a lease specification says of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
