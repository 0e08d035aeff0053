# SPDX-License-Identifier: Apache-2.0
"""Commits to the rounds done so far: early, and again as there are more.

An early commit is what counts when the machine fails later. Each slot of the schedule makes one
intent at most, so a restart commits to nothing twice; what a slot commits to is decided when its
time has come.
"""

from __future__ import annotations

from pathlib import Path

from provider_agent.benchmark.folder import ProofFolder
from provider_agent.benchmark.merkle import RoundTree, commitment
from provider_agent.benchmark.schedule import Rules
from provider_agent.chain.contracts import BenchmarkContract
from provider_agent.duties.attempts import CAME_TO_NOTHING, Attempts
from provider_agent.duties.epochs import Facts
from provider_agent.settings import BenchmarkSettings

_BLOCKS_IN_WINDOW = 6  # at least, or no schedule would fit


class Commits:
    """See the module. `block_seconds` is the time between two blocks."""

    def __init__(
        self,
        settings: BenchmarkSettings,
        contract: BenchmarkContract,
        attempts: Attempts,
        block_seconds: float,
    ) -> None:
        self._settings, self._contract, self._attempts = settings, contract, attempts
        self._block_seconds = block_seconds
        self._tree = RoundTree()
        self._path: Path | None = None

    def rounds(self, folder: ProofFolder) -> int:
        """How many rounds are on the disk."""
        if self._path != folder.path:
            self._path, self._tree = folder.path, RoundTree()
        for root in folder.roots(skip=len(self._tree)):
            self._tree.append(root)
        return len(self._tree)

    def commit(self, facts: Facts, rules: Rules, folder: ProofFolder, name: str) -> None:
        """Commit to the rounds in the folder, when it is time; `name` is the proof's in intents."""
        rounds = self.rounds(folder)
        slot = self._slot(facts, rules)
        least = max(self._settings.min_rounds, self.committed(facts, name) + 1)
        if slot == 0 or rounds < least or not self._in_time(facts, rules):
            return
        action = f"commit-{slot}"
        if self._attempts.may_begin(name, action):
            data = self._contract.commit(facts.epoch, rounds, self._tree.commitment())
            until = rules.window_end(facts.record.opened_at) - 1
            self._attempts.begin(name, action, data, deadline=until)

    def committed(self, facts: Facts, name: str) -> int:
        """The most rounds that were committed to, on chain or on the way."""
        on_the_way = [
            self._contract.committed_rounds(intent.data)
            for intent in self._attempts.made(name)
            if intent.state not in CAME_TO_NOTHING and intent.key.action.startswith("commit")
        ]
        return max([*on_the_way, facts.proof.rounds if facts.ours else 0])

    def is_strange(self, facts: Facts, folder: ProofFolder, name: str) -> bool:
        """Whether the commitment on chain is none that this agent has made: somebody else has the
        key, and rounds that nobody has done may cost the bond.
        """
        proof = facts.proof
        if not facts.ours:
            return False
        known = self._contract.commit(facts.epoch, proof.rounds, proof.commitment)
        if any(intent.data == known for intent in self._attempts.made(name)):
            return False
        roots = folder.roots()[: proof.rounds]  # the database may be an old copy
        return len(roots) < proof.rounds or commitment(roots) != proof.commitment

    def is_done(self, facts: Facts, rules: Rules, name: str) -> bool:
        """Whether more rounds are of no use: the last commit is made, or it is too late for it."""
        made = self._attempts.made(name, f"commit-{self._settings.commits}")
        last = bool(made) and made[-1].state not in CAME_TO_NOTHING
        return last or not self._in_time(facts, rules)

    def _slot(self, facts: Facts, rules: Rules) -> int:
        """How many commits of the schedule are due."""
        pace = self._pace(rules)
        lead = max(2 * pace, min(self._settings.commit_blocks * pace, rules.window / 4))
        times = rules.commit_times(facts.record.opened_at, self._settings.commits, lead)
        return sum(time <= facts.now for time in times)

    def _in_time(self, facts: Facts, rules: Rules) -> bool:
        return facts.now + self._pace(rules) < rules.window_end(facts.record.opened_at)

    def _pace(self, rules: Rules) -> float:
        """Seconds between blocks; a window so short can only be meant for a faster chain."""
        return min(self._block_seconds, rules.window / _BLOCKS_IN_WINDOW)
