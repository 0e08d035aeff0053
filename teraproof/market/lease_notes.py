# SPDX-License-Identifier: Apache-2.0
"""What this machine remembers of its leases: what was about to be sent, and what they run.

A note is written before money moves. So a command that was broken off is found again by the next
one, which asks the chain. Losing the notes loses no lease and no money: the chain has both.
Credentials are never noted.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from teraproof.errors import CommandError, LocalError
from teraproof.locks import MachineLock
from teraproof.protocol import leasespec
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.state import state_directory

_WORD = 80
_BYTES = 64 << 10


@dataclass(frozen=True)
class Note:
    """An order of an account. `nonce` is that of the order, by which the chain knows it."""

    chain: str
    """Which chain, market and account it is for."""
    spec: str
    """Hex digits."""
    nonce: str
    """A number as text: it has up to 256 bits."""
    file: str = ""
    """The tenant's file, which alone has the credentials."""
    akt_usd: str = ""
    provider: str = ""
    """Owner address of the provider that was hired; empty in an auction."""
    max_rate: str = ""
    """The most that its tenant pays, payment token units a second."""
    lease: str = ""
    """Hex digits, once it is on the chain."""
    settled: bool = False
    """Whether nothing is left to do: confirmed, rejected, or given up."""
    watched: str = ""
    """The lease that it goes on with what that one had saved; hex digits."""
    access: str = ""
    """The file that opens the store of its checkpoints; empty: the environment does."""


def place_of(chain_id: int, genesis: str, leases: str, account: str) -> str:
    """Names a chain, a market and an account."""
    return f"{chain_id}-{genesis[2:14]}-{leases.lower()}-{account.lower()}"


def folder() -> Path:
    """Where the notes lie."""
    return state_directory() / "leases"


@contextlib.contextmanager
def alone(chain: str, what: str, name: bytes) -> Iterator[None]:
    """Keep other commands of this machine from doing the same. CommandError names the process."""
    lock = MachineLock(f"lease-{what}-{chain}-{name.hex()[:16]}")
    if not lock.take():
        holder = lock.holder()
        which = "" if holder is None else f" (process {holder})"
        raise CommandError(
            f"another command does the same{which}; wait until it has ended", Code.COMMAND_RUNNING
        )
    try:
        yield
    finally:
        lock.release()


def write(note: Note) -> None:
    """Keep a note, before anything is sent. LocalError when the disk does not take it."""
    place = folder() / note.chain
    text = json.dumps(asdict(note), indent=2) + "\n"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=place, suffix=".new")  # mode 0600
        with os.fdopen(handle, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(place / _name(note))
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise LocalError(
            f"{place}: what is about to be sent cannot be noted ({why}), so nothing was sent; "
            "make room, or set XDG_STATE_HOME",
            Code.SETTINGS_INVALID,
        ) from None


def settle(note: Note) -> None:
    """Nothing is left to do about it. A disk that fails keeps the note, which harms nobody."""
    with contextlib.suppress(LocalError):
        write(replace(note, settled=True))


def drop(note: Note) -> None:
    """Forget what never came to the chain."""
    with contextlib.suppress(OSError, RuntimeError):
        (folder() / note.chain / _name(note)).unlink()


def read_all(chain: str) -> list[Note]:
    """The notes of a chain, market and account, the oldest first."""
    found = []
    with contextlib.suppress(OSError, RuntimeError):
        for path in (folder() / chain).glob("*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                found.append((path.stat().st_mtime_ns, _note(path)))
    return [note for _, note in sorted(found, key=lambda one: one[0]) if note.chain == chain]


def unsettled(chain: str, spec: bytes) -> Iterator[Note]:
    """Orders of a specification that some command has not brought to their end."""
    for note in read_all(chain):
        if note.spec == spec.hex() and not note.settled:
            yield note


def of_lease(chain: str, lease: bytes) -> Note | None:
    """The note of a lease that this machine has ordered."""
    return next((note for note in read_all(chain) if note.lease == lease.hex()), None)


def keep_spec(spec: LeaseSpec) -> None:
    """Keep a specification; a full or read-only disk does not stop the command."""
    with contextlib.suppress(OSError, RuntimeError):
        place = _specs()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = place / f"{spec.digest().hex()}.json"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(spec.canonical())


def spec_of(digest: bytes) -> LeaseSpec | None:
    """The specification of this name, if it was ordered from this machine."""
    try:
        data = (_specs() / f"{digest.hex()}.json").read_bytes()
        return leasespec.parse_named(data, digest)
    except (OSError, RuntimeError, LocalError):
        return None


def name_of(digest: bytes) -> str:
    """The name of the lease with this specification, or ""."""
    spec = spec_of(digest)
    return "" if spec is None else one_line(spec.name, _WORD)


def _specs() -> Path:
    return folder() / "specifications"


def _name(note: Note) -> str:
    return f"{note.spec[:16]}-{int(note.nonce):064x}.json"


def _note(path: Path) -> Note:
    with path.open("rb") as source:
        document: Any = json.loads(source.read(_BYTES))
    note = Note(**document)
    for name, value in asdict(note).items():
        if not isinstance(value, bool if name == "settled" else str):
            raise ValueError(f"{name} is not what it must be")
    int(note.nonce)
    int(note.max_rate or 0)
    bytes.fromhex(note.spec)
    bytes.fromhex(note.lease)
    return note
