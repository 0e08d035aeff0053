# SPDX-License-Identifier: Apache-2.0
"""Names that were used on this machine, of jobs and of capabilities: the chain keeps digests alone.

Losing the notes loses nothing but the names.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from teraproof.errors import WrongInput
from teraproof.protocol.capability import Capability
from teraproof.protocol.errors import one_line
from teraproof.protocol.jobspec import JobSpec
from teraproof.state import state_directory

_WORD = 80
_DIGITS = 10  # of a capability that has a name, with its 0x


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


def note_capability(named: Capability) -> None:
    """Keep the name of a capability, as `note` does."""
    with contextlib.suppress(OSError, RuntimeError):
        place = _capabilities()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        (place / f"{named.number():064x}").write_text(str(named))


def capability_of(digest: bytes) -> Capability | None:
    """The capability of these 32 bytes, if it was named here."""
    try:
        found = Capability.parse((_capabilities() / digest.hex()).read_text())
    except (OSError, RuntimeError, ValueError, WrongInput):
        return None
    return found if found.number() == int.from_bytes(digest, "big") else None


def show_capability(digest: bytes) -> str:
    """A capability for people: its name and first digits, or all digits where it has no name."""
    name, digits = capability_of(digest), "0x" + digest.hex()
    return digits if name is None else f"{name} ({digits[:_DIGITS]}...)"


def _capabilities() -> Path:
    return state_directory() / "capabilities"
