# SPDX-License-Identifier: Apache-2.0
"""What is known of mutants from runs before, so that a run that was stopped goes on, wherever it is
made: the verdicts are a part of the repository.

A mutant is known by what its function says to the compiler with the bug in it: comments, docstrings
and layout may change. One that was killed stays killed while that stays as it is: a full run takes
hours, and a change elsewhere does not make a test that noticed the bug blind. One that survived is
tried again as soon as any contract or test says something else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from hashlib import sha256
from pathlib import Path

from tests.mutation.mutants import CONTRACTS, ROOT, Mutant
from tests.mutation.words import Words, words_of

RECORDS = ROOT / ".build" / "mutation"
KEPT = Path(__file__).parent
VERDICTS = "verdicts.jsonl"


def fingerprint(*folders: Path) -> str:
    """Changes with what any source in the folders says."""
    text = sha256()
    for folder in folders:
        for path in sorted([*folder.rglob("*.vy*"), *folder.rglob("*.py")]):
            said = words_of(path.read_text()).digest()
            text.update(f"{path.relative_to(ROOT)} {said}\n".encode())
    return text.hexdigest()[:16]


def of_everything(tests: Collection[str] = ()) -> str:
    """Of the contracts and their tests; `tests` are those that were chosen, none: all."""
    chosen = sha256(" ".join(sorted(tests)).encode()).hexdigest()[:8]
    found = fingerprint(CONTRACTS, ROOT / "tests" / "contracts")
    return f"{found}-{chosen}" if tests else found


class Verdicts:
    """A file with one line a verdict: file, the code with the bug, verdict, and all sources."""

    def __init__(
        self, lasting: Collection[str], folder: Path = KEPT, tests: Collection[str] = ()
    ) -> None:
        self._now = of_everything(tests)
        self._path = folder / VERDICTS
        self._words: dict[str, Words] = {}
        self._known: dict[tuple[str, str], str] = {}
        for line in self._path.read_text().splitlines() if self._path.is_file() else ():
            file, code, verdict, everything = json.loads(line)
            if everything == self._now or verdict in lasting:
                self._known[file, code] = verdict

    def _name(self, mutant: Mutant) -> tuple[str, str]:
        if mutant.file not in self._words:
            self._words[mutant.file] = words_of((CONTRACTS / mutant.file).read_text())
        words = self._words[mutant.file]
        return mutant.file, words.digest_with(mutant.start, mutant.end, mutant.after)

    def get(self, mutant: Mutant) -> str | None:
        """The verdict, or None if the mutant must be tried."""
        return self._known.get(self._name(mutant))

    def missing(self, mutants: Iterable[Mutant]) -> list[Mutant]:
        return [mutant for mutant in mutants if self.get(mutant) is None]

    def put(self, mutant: Mutant, verdict: str) -> None:
        name = self._name(mutant)
        self._known[name] = verdict
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps([*name, verdict, self._now]) + "\n")
