# SPDX-License-Identifier: Apache-2.0
"""What is known of mutants from runs before, so that a run that was stopped goes on.

A mutant that was killed stays killed while its own file stays as it is: a full run takes hours, and
a change elsewhere does not make a test that noticed the bug blind. One that survived is tried again
as soon as any contract or test has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
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
    """A file with one line a verdict: mutant, verdict, its file's text, and all sources."""

    def __init__(self, lasting: Collection[str], folder: Path = RECORDS) -> None:
        self._lasting = lasting
        self._now = of_everything()
        self._path = folder / "verdicts.jsonl"
        self._texts: dict[str, str] = {}
        self._known: dict[str, str] = {}
        for line in self._path.read_text().splitlines() if self._path.is_file() else ():
            name, verdict, text, everything = json.loads(line)
            file = name.split(":")[0]
            if everything == self._now or (verdict in lasting and text == self._text(file)):
                self._known[name] = verdict

    @staticmethod
    def _name(mutant: Mutant) -> str:
        return f"{mutant.file}:{mutant.start}:{mutant.end}:{mutant.after}"

    def _text(self, file: str) -> str:
        """A short digest of a contract's source; empty if it is gone."""
        if file not in self._texts:
            path = CONTRACTS / file
            text = path.read_bytes() if path.is_file() else None
            self._texts[file] = "" if text is None else hashlib.sha256(text).hexdigest()[:16]
        return self._texts[file]

    def get(self, mutant: Mutant) -> str | None:
        """The verdict, or None if the mutant must be tried."""
        return self._known.get(self._name(mutant))

    def missing(self, mutants: Iterable[Mutant]) -> list[Mutant]:
        return [mutant for mutant in mutants if self.get(mutant) is None]

    def put(self, mutant: Mutant, verdict: str) -> None:
        self._known[self._name(mutant)] = verdict
        self._path.parent.mkdir(parents=True, exist_ok=True)
        row = [self._name(mutant), verdict, self._text(mutant.file), self._now]
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
