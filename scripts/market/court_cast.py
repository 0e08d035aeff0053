# SPDX-License-Identifier: Apache-2.0
"""Who plays in the demo of a dispute, and what follows from its seed: the liar, the byte that is
turned, the juror whose machine dies, and whether the loser appeals.
"""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.market.agents import RUNTIME, Agent
from teraproof.protocol.capability import CPU, Capability

if TYPE_CHECKING:
    from scripts.market.accounts import ApeSigner

PROVIDER, TENANT = "provider", "tenant"
CAPABILITY = Capability("batch", "python-ml", CPU)
ROWS = 400
# Seats of each juror. Some come for an appeal: who sat before cannot sit again, and of a few jurors
# too few would be left.
SEATS, SEATS_AND_LATE = (2,) * 6, ((3,) * 4, (18,) * 2)
_LIE = '''"""A provider that lies: one bit of one output is another one than the job has made."""

import atexit
import os

PLACE, BIT = {place}, {bit}


def turn():
    for name in ("out/table.txt",):
        if os.path.exists(name):
            with open(name, "r+b") as file:
                data = file.read()
                at = PLACE % len(data)
                file.seek(at)
                file.write(bytes([data[at] ^ 1 << BIT]))


atexit.register(turn)
'''
_WORK = '''"""A table of digests, each of the one before it. It takes a second: one can watch."""

import hashlib
import os
import time

ROWS = {rows}

print("working", flush=True)
time.sleep(1)
row = b"{seed}"
os.mkdir("out")
with open("out/table.txt", "w") as file:
    for number in range(ROWS):
        row = hashlib.sha256(row).digest()
        file.write(row.hex() + "\\n")
print("done", flush=True)
'''


@dataclass(frozen=True)
class Plot:
    """What follows from a seed."""

    seed: int
    liar: str
    appeal: bool
    place: int
    """Of the byte that a lying provider turns."""
    bit: int
    victim: int
    """Which juror of the first jury dies, modulo their number."""

    @classmethod
    def of(cls, seed: int, liar: str | None = None, appeal: bool | None = None) -> Plot:
        """The plot of a seed; `liar` and `appeal` replace what it would choose."""
        dice = random.Random(seed)  # noqa: S311 - a play, not a secret
        chosen, appealed = dice.choice((PROVIDER, TENANT)), dice.random() < 0.5
        place, bit, victim = dice.randrange(1 << 20), dice.randrange(8), dice.randrange(60)
        return cls(
            seed,
            chosen if liar is None else liar,
            appealed if appeal is None else appeal,
            place,
            bit,
            victim,
        )

    @property
    def seats(self) -> tuple[int, ...]:
        """Of the jurors that have seats from the beginning, then of those that come later."""
        early, late = SEATS_AND_LATE
        return (*early, *late) if self.appeal else SEATS

    @property
    def late(self) -> int:
        """How many of the jurors come when a ruling is appealed."""
        return len(SEATS_AND_LATE[1]) if self.appeal else 0

    def write_job(self, folder: Path) -> Path:
        """The package of the job, a directory."""
        folder.mkdir(exist_ok=True)
        (folder / "work.py").write_text(_WORK.format(rows=ROWS, seed=self.seed))
        (folder / "job.json").write_text(json.dumps(_spec()))
        return folder

    def write_liar(self, folder: Path) -> Path:
        """A runtime whose jobs end with one bit turned."""
        python = RUNTIME / "bin" / "python"
        line = [str(python), "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(line, check=True, capture_output=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "sitecustomize.py").write_text(_LIE.format(place=self.place, bit=self.bit))
        return folder


@dataclass
class Player:
    """A provider with an agent: the one that does the job, or a juror."""

    name: str
    owner: ApeSigner
    agent: Agent

    @property
    def address(self) -> str:
        """The owner's."""
        return self.owner.address


def _spec() -> dict[str, Any]:
    return {
        "version": 1,
        "kind": CAPABILITY.kind,
        "name": "table of digests",
        "runtime": CAPABILITY.runtime,
        "command": ["python", "work.py"],
        "env": {},
        "inputs": ["work.py"],
        "outputs": ["out"],
        "resources": {"cpus": 1, "memory_mb": 128, "disk_mb": 16, "gpus": 0},
        "timeout_seconds": 30,
        "deterministic": True,
        "network": False,
    }
