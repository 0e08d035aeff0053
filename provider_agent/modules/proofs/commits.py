# SPDX-License-Identifier: Apache-2.0
"""Commits to the rounds done so far: early, so that something is on chain whatever fails; once
more in the middle; and one for each of the last blocks of the window, where each replaces the one
before by more rounds.

What counts is what the last block takes that is still in the window. Nobody knows beforehand which
that is, so the last blocks are all tried, and each commit waits until shortly before its block.
Each slot makes one intent at most, so a restart commits to nothing twice; what a slot commits to is
decided when its time has come.
"""

from __future__ import annotations

from pathlib import Path

from provider_agent.core.attempts import CAME_TO_NOTHING, Attempts
from provider_agent.modules.proofs.epochs import Facts
from provider_agent.modules.proofs.settings import BenchmarkSettings
from provider_agent.prover.folder import ProofFolder
from provider_agent.store import IntentState
from teraproof.contracts.benchmark import COMMIT, BenchmarkContract
from teraproof.pog.merkle import RoundTree, commitment
from teraproof.pog.schedule import Rules
from teraproof.rpc.pace import Pace

_FASTEST = 1.0  # seconds between two commits: faster blocks are not tried one by one
_MOST_LEAD = 4.0  # seconds before its block at which a commit leaves at the latest
_LEAD_PART = 0.6  # of the time between two blocks, where that is less
_MOST_WAITING = 2  # commits sent and not mined: what stands before them is stuck


class Commits:
    """See the module."""

    def __init__(
        self,
        settings: BenchmarkSettings,
        contract: BenchmarkContract,
        attempts: Attempts,
        pace: Pace,
    ) -> None:
        self._settings, self._contract, self._attempts = settings, contract, attempts
        self._pace = pace
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
        """Commit to the rounds in the folder, when it is time; `name` is the proof's in intents.
        Only in an epoch that the pinned block has: a commit cannot be opened in another one.
        """
        slot = self._slot(facts, rules)
        if not slot or not facts.is_pinned or self.wait(facts, rules) > 0:
            return
        action = f"commit-{slot}"
        if not self._attempts.may_begin(name, action) or self._waiting(name) >= _MOST_WAITING:
            return
        rounds = self.rounds(folder)
        if rounds >= max(self._settings.min_rounds, self.committed(facts, name) + 1):
            data = self._contract.commit(facts.epoch, rounds, self._tree.commitment())
            until = rules.window_end(facts.record.opened_at) - 1
            self._attempts.begin(name, action, data, deadline=until)

    def wait(self, facts: Facts, rules: Rules) -> float:
        """Seconds to the moment at which the commit for the next block leaves; 0 when it is there,
        or when there is no hurry.
        """
        left = rules.blocks_left(facts.record.opened_at, facts.now, self._step)
        if left > self._settings.last_commits:
            return 0.0
        pace = self._pace.seconds
        lead = min(_MOST_LEAD, _LEAD_PART * pace)
        return max(0.0, pace - lead - self._pace.since_block()) if pace > _FASTEST else 0.0

    def in_last_blocks(self, facts: Facts, rules: Rules) -> bool:
        """Whether the commits that count are due, or about to be."""
        left = rules.blocks_left(facts.record.opened_at, facts.now, self._step)
        return left <= self._settings.last_commits + 1

    def committed(self, facts: Facts, name: str) -> int:
        """The most rounds that were committed to, on chain or on the way."""
        on_the_way = [
            int(COMMIT.decode_input(intent.data)[1])
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

    def _slot(self, facts: Facts, rules: Rules) -> str:
        """The commit of the schedule that is due."""
        last = self._settings.last_commits
        return rules.commit_slot(facts.record.opened_at, facts.now, self._step, last)

    def _waiting(self, name: str) -> int:
        """How many commits are on the way to a block."""
        on_the_way = (IntentState.PLANNED, IntentState.SIGNED, IntentState.SENT)
        return sum(intent.state in on_the_way for intent in self._attempts.made(name))

    @property
    def _step(self) -> float:
        """Seconds from one block that is tried to the next."""
        return max(_FASTEST, self._pace.seconds)
