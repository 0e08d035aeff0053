# SPDX-License-Identifier: Apache-2.0
"""A proof on the disk: what the agent asks of its worker process, and what that answers.

    challenge.json   what to prove and on which device; written by the agent
    roots            32 bytes per round, in order; grows while the worker runs
    draw.json        the samples to open: draw, rounds, how many; written by the agent
    openings.json    their openings; written once, by the worker
    lock             held by the worker
    log              what it has to say; the last line is why it failed

Everything but the challenge and the draw can be computed again from these two.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provider_agent.runners.linux import take_lock
from provider_agent.runners.state import write_json
from teraproof.pog.format import ZERO, Shape
from teraproof.pog.opening import Opening

_ROOT_BYTES = 32
_CHALLENGE, _ROOTS, _DRAW, _OPENINGS = "challenge.json", "roots", "draw.json", "openings.json"
_LOCK, _LOG = "lock", "log"


@dataclass(frozen=True)
class Task:
    """What a worker proves. `turn_seconds`: how long it keeps a device that others wait for."""

    challenge: bytes
    shape: Shape
    device: str
    turn_seconds: float


@dataclass(frozen=True)
class Request:
    """Which samples of a proof are to be opened: those of `draw`, `count` of them, in the proof of
    the first `rounds` rounds.
    """

    draw: bytes
    rounds: int
    count: int


class ProofFolder:
    """See the module. One worker writes, the agent reads at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # ------------------------------------------------------------------ the agent's part

    def create(self, task: Task) -> None:
        """Make the folder, if it is not there or half made; the device of a task may change."""
        if (self.path / _CHALLENGE).exists() and self.task() == task:
            return
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        value = {
            "challenge": task.challenge.hex(),
            "n": task.shape.n,
            "blocks": task.shape.blocks,
            "device": task.device,
            "turn_seconds": task.turn_seconds,
        }
        write_json(self.path / _CHALLENGE, value)

    def request(self, request: Request) -> None:
        """Ask for openings. Those of another request are thrown away."""
        if self.requested() != request:
            (self.path / _OPENINGS).unlink(missing_ok=True)
            write_json(self.path / _DRAW, {**asdict(request), "draw": request.draw.hex()})

    def openings(self, request: Request) -> list[Opening] | None:
        """The openings of a request, once they are there. OpeningError when they fit no proof."""
        found = self._read(_OPENINGS)
        if found is None or found["request"] != {**asdict(request), "draw": request.draw.hex()}:
            return None
        shape = self.task().shape
        return [
            Opening.decode(bytes.fromhex(text), shape, request.rounds) for text in found["openings"]
        ]

    def drop_openings(self) -> None:
        """Have them computed again."""
        (self.path / _OPENINGS).unlink(missing_ok=True)

    def last_words(self) -> str:
        """The last line of the worker's log, or ""."""
        try:
            lines = (self.path / _LOG).read_text("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @property
    def log(self) -> Path:
        """Where the worker's log goes."""
        return self.path / _LOG

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    # ------------------------------------------------------------------ both

    def task(self) -> Task:
        """What is proven here."""
        found = json.loads((self.path / _CHALLENGE).read_bytes())
        return Task(
            bytes.fromhex(found["challenge"]),
            Shape(found["n"], found["blocks"]),
            str(found["device"]),
            float(found["turn_seconds"]),
        )

    def requested(self) -> Request | None:
        """The openings that are asked for."""
        found = self._read(_DRAW)
        if found is None:
            return None
        return Request(bytes.fromhex(found["draw"]), int(found["rounds"]), int(found["count"]))

    def roots(self, skip: int = 0) -> list[bytes]:
        """The roots of the rounds done so far, the first `skip` left out.

        A part of a root counts for nothing, and neither do zeros at the end, which a loss of power
        can leave: those rounds are done again, with the same result.
        """
        try:
            with open(self.path / _ROOTS, "rb") as file:
                file.seek(skip * _ROOT_BYTES)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = len(data) // _ROOT_BYTES * _ROOT_BYTES
        found = [data[at : at + _ROOT_BYTES] for at in range(0, whole, _ROOT_BYTES)]
        while found and found[-1] == ZERO:
            found.pop()
        return found

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        return found

    # ------------------------------------------------------------------ the worker's part

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Be the only worker in this folder; False when there is one already."""
        handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield take_lock(handle)
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def appending(self) -> Iterator[RootFile]:
        """The file of the roots, to go on where it ends."""
        done = self.roots()
        handle = os.open(
            self.path / _ROOTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            os.ftruncate(handle, len(done) * _ROOT_BYTES)
            yield RootFile(handle, done)
        finally:
            os.close(handle)

    def keep_openings(self, request: Request, openings: list[Opening]) -> None:
        """Write the openings of a request, all at once."""
        value = {
            "request": {**asdict(request), "draw": request.draw.hex()},
            "openings": [opening.encode().hex() for opening in openings],
        }
        write_json(self.path / _OPENINGS, value)


class RootFile:
    """Roots on the disk and in memory."""

    def __init__(self, handle: int, roots: list[bytes]) -> None:
        self._handle = handle
        self.roots = roots

    def append(self, root: bytes) -> None:
        """Add the root of the next round."""
        os.write(self._handle, root)
        self.roots.append(root)
