# SPDX-License-Identifier: Apache-2.0
"""What is known of mutants from runs before, so that a run that was stopped goes on.

A mutant that was killed stays killed while the contracts stay as they are. One that survived is
tried again as soon as a test has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from tests.mutation.mutants import CONTRACTS, ROOT, Mutant

RECORDS = ROOT / ".build" / "mutation"


def fingerprint(*folders: Path) -> str:
    """Changes with any source in the folders."""
    text = hashlib.sha256()
    for folder in folders:
        for path in sorted([*folder.rglob("*.vy*"), *folder.rglob("*.py")]):
            text.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return text.hexdigest()[:16]


def of_everything() -> str:
    """Of the contracts and their tests."""
    return fingerprint(CONTRACTS, ROOT / "tests" / "contracts")


class Verdicts:
    """A file with one line a verdict."""

    def __init__(self, lasting: str) -> None:
        self._lasting = lasting
        self._now = of_everything()
        self._path = RECORDS / f"verdicts-{fingerprint(CONTRACTS)}.jsonl"
        self._known: dict[str, str] = {}
        for line in self._path.read_text().splitlines() if self._path.is_file() else ():
            name, verdict, tests = json.loads(line)
            if verdict == lasting or tests == self._now:
                self._known[name] = verdict

    @staticmethod
    def _name(mutant: Mutant) -> str:
        return f"{mutant.file}:{mutant.start}:{mutant.end}:{mutant.after}"

    def get(self, mutant: Mutant) -> str | None:
        """The verdict, or None if the mutant must be tried."""
        return self._known.get(self._name(mutant))

    def missing(self, mutants: Iterable[Mutant]) -> list[Mutant]:
        return [mutant for mutant in mutants if self.get(mutant) is None]

    def put(self, mutant: Mutant, verdict: str) -> None:
        self._known[self._name(mutant)] = verdict
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps([self._name(mutant), verdict, self._now]) + "\n")
