# SPDX-License-Identifier: Apache-2.0
"""What the operator has said of each job, on the disk before it is said: never two things.

Two attestations of one job with different results cost the collateral, whoever shows them. So the
statement is kept first, in a file of its own that no run and no lost database takes away, and only
what is kept is signed or sent. Whoever runs a job again after a crash finds there what the result
must be.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from provider_agent.durable import sync, sync_directory
from provider_agent.errors import RunnerError
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Attestation

_VERSION = 1
_DIGESTS = ("job", "spec", "result", "receipt")
_TIMES = ("started", "finished")


class SaidOtherwise(RunnerError):
    """Something else was said of a job before; this is not said."""

    default: ClassVar[Code] = Code.SIGNED_OTHERWISE


@dataclass(frozen=True)
class Said:
    """A statement, and the job receipt that it names: bytes, empty where they were lost."""

    statement: Attestation
    receipt: bytes


class Attestations:
    """One file a job below a directory. Safe to use from several threads of one process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def of(self, job_id: bytes) -> Said | None:
        """What was said of a job. RunnerError where that cannot be read: then nothing may be."""
        place = self._root / job_id.hex()
        try:
            return _read(place.read_bytes(), job_id)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, LocalError):
            raise RunnerError(
                f"{place} is damaged: it holds what was signed for the job; restore it, or let "
                "the job expire"
            ) from None

    def keep(self, statement: Attestation, receipt: bytes) -> Attestation:
        """Keep a statement for good; the one to sign or send, which may name other times if it is
        an earlier one of the same result and receipt. SaidOtherwise if it is not; RunnerError
        where it cannot be kept.
        """
        with self._lock:
            said = self.of(statement.job)
            if said is None:
                self._write(statement, receipt)
                return statement
        before = said.statement
        parts = ("spec", "result", "receipt")
        if any(getattr(before, part) != getattr(statement, part) for part in parts):
            raise SaidOtherwise(
                f"result 0x{before.result.hex()[:16]} was signed for before, and this run gave "
                f"0x{statement.result.hex()[:16]}: signing for both would cost the collateral"
            )
        return before

    def drop(self, job_id: bytes) -> None:
        """Forget what was said of a job that has ended."""
        with suppress(FileNotFoundError):
            (self._root / job_id.hex()).unlink()

    def older_than(self, before: float) -> Iterator[bytes]:
        """The jobs of which something was said before a time (unix seconds), and not since."""
        with os.scandir(self._root) as entries:
            for entry in entries:
                if len(entry.name) == 64 and entry.stat().st_mtime < before:
                    yield bytes.fromhex(entry.name)

    def _write(self, statement: Attestation, receipt: bytes) -> None:
        value: dict[str, Any] = {"version": _VERSION, "text": receipt.decode("utf-8", "replace")}
        value |= {name: getattr(statement, name).hex() for name in _DIGESTS}
        value |= {name: getattr(statement, name) for name in _TIMES}
        place = self._root / statement.job.hex()
        part = self._root / f".{place.name}.{secrets.token_hex(4)}"
        try:
            with part.open("xb") as file:
                file.write(json.dumps(value).encode())
            sync(part)
            os.link(part, place)  # fails where there is one already
            sync_directory(self._root)
        except OSError as error:
            raise RunnerError(
                f"what is to be signed cannot be kept in {self._root}: {error.strerror or error}"
            ) from error
        finally:
            part.unlink(missing_ok=True)


def _read(data: bytes, job_id: bytes) -> Said:
    value = json.loads(data)
    fields: dict[str, Any] = {name: bytes.fromhex(value[name]) for name in _DIGESTS}
    statement = Attestation(**fields, **{name: value[name] for name in _TIMES})
    if value["version"] != _VERSION or statement.job != job_id:
        raise ValueError(value["version"])
    return Said(statement, value["text"].encode())
