# SPDX-License-Identifier: Apache-2.0
"""The names of jobs that were posted from this machine: the chain keeps a digest alone.

Losing the notes loses nothing but the names.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from teraproof.protocol.errors import one_line
from teraproof.protocol.jobspec import JobSpec
from teraproof.state import state_directory

_WORD = 80


def folder() -> Path:
    """Where the notes lie."""
    return state_directory() / "jobs"


def note(spec: JobSpec) -> None:
    """Keep the specification of a job; a full or read-only disk does not stop the command."""
    with contextlib.suppress(OSError, RuntimeError):
        place = folder()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        (place / f"{spec.digest().hex()}.json").write_bytes(spec.canonical())


def name_of(digest: bytes) -> str:
    """The name of the job with this specification, or ""."""
    try:
        document = json.loads((folder() / f"{digest.hex()}.json").read_bytes())
        return one_line(document["name"], _WORD)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return ""
