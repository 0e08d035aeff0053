# SPDX-License-Identifier: Apache-2.0
"""The benchmark duty: proves this machine's speed in each epoch, and gets the proof verified.

What is owed follows from the epoch at the pinned block and from what is on the disk:

    nobody has opened the epoch          -> intent `open`, after a delay of our own
    its window is open                   -> a worker that does rounds; intents `commit-1`, ... by
                                            a schedule, each with the rounds done by then
    window over, committed, not drawn    -> intent `draw`, after a delay of our own
    drawn, committed, not all verified   -> a worker that opens samples; intents `samples-<first>`
    anything else                        -> no worker may be left

A missed window, a void epoch or lost rounds cost that epoch's score and nothing else. The one thing
that costs money is a commitment that is not opened: so what is committed to can be computed again
from the challenge alone, whatever is lost.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from provider_agent.benchmark import format as pog
from provider_agent.benchmark.folder import ProofFolder, Task
from provider_agent.benchmark.format import MAX_ROUNDS
from provider_agent.benchmark.schedule import Rules, Stage, stagger
from provider_agent.chain.contracts import BenchmarkContract, Committed, Event
from provider_agent.chain.rpc import BlockRef
from provider_agent.duties.attempts import UNDECIDED, Attempts
from provider_agent.duties.commits import Commits
from provider_agent.duties.epochs import EpochView, Facts, ProofReport, unfit
from provider_agent.duties.faults import Faults
from provider_agent.duties.opening import Openings
from provider_agent.duties.policy import Standing
from provider_agent.duties.prover import Prover
from provider_agent.errors import ChainError
from provider_agent.settings import BenchmarkSettings
from provider_agent.store import Store

log = logging.getLogger(__name__)

CONTRACT = "benchmark"
REPORT = "benchmark.report"  # in the store's meta
_KEEP_REPORT = 5.0  # seconds between two writes of what only counts up
_AFTER_WINDOW = (Stage.DELAY, Stage.DRAW, Stage.VOID, Stage.SAMPLES)
_BUSY = "paused while a job runs"
_STRANGE = (
    "the commitment on chain is not ours: change the operator key, and let the owner take the "
    "commitment back before the window ends"
)
_FAILURES, _LAST_DEVICE = 3, "cpu"  # so many failures to open samples, and what opens them then


class BenchmarkDuty:
    """See the module. `busy` tells whether jobs run; called from one thread."""

    def __init__(
        self,
        *,
        settings: BenchmarkSettings,
        chain_id: int,
        block_seconds: float,
        store: Store,
        contract: BenchmarkContract,
        attempts: Attempts,
        prover: Prover,
        folders: Path,
        busy: Callable[[], bool],
        on_outcome: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._settings, self._chain_id, self._store = settings, chain_id, store
        self._contract, self._attempts, self._prover = contract, attempts, prover
        self._folders, self._busy, self._on_outcome = folders, busy, on_outcome
        self._view = EpochView(contract)
        self._commits = Commits(settings, contract, attempts, block_seconds)
        at_once = settings.openings_per_transaction
        self._openings = Openings(contract, attempts, prover, at_once)
        self._faults = Faults(store, contract, attempts)
        self._outcomes: set[tuple[int, str]] = set()
        self._missed_because = ""
        self._written: tuple[ProofReport, float] | None = None
        #: What is shown of the proofs; replaced whole, so that other threads may read it.
        self.report = self._draft = ProofReport(settings.device)

    def close(self) -> None:
        """End the worker. What it has done stays on the disk."""
        self._prover.stop()

    def consume(self, events: Sequence[Event]) -> None:
        """Remember who has committed, in the feed's transaction."""
        if self._settings.report_faults:
            for event in events:
                if isinstance(event, Committed):
                    self._store.add_proof(event.epoch, event.provider)

    def reconcile(self, block: BlockRef, now: int, standing: Standing | None) -> None:
        """Do what is owed at this block. `now` is the time of the newest block.

        Raises ChainError; what was written stays right. Any other fault is logged: proofs must not
        stop the jobs.
        """
        self._draft = ProofReport(self._settings.device)
        try:
            note = self._reconcile(block, now, standing)
            if self._prover.trouble:
                note = self._prover.trouble
            self._show(note)
        except (ChainError, sqlite3.Error):
            raise
        except Exception:
            log.exception("the proof was not reconciled")

    def _reconcile(self, block: BlockRef, now: int, standing: Standing | None) -> str:
        if standing is None or not standing.operator_is_ours:
            self._prover.stop()
            return "the operator works for no provider"
        facts = self._view.facts(block, now, standing.owner)
        rules = self._view.rules(block)
        if facts is None:
            return f"the first epoch begins in {rules.genesis - now} s"
        self._begin_report(facts, rules)
        self._prune(facts.epoch)
        if self._settings.report_faults:
            self._faults.report(rules, facts.owner, facts.epoch, block)
        reason = "" if facts.ours else unfit(facts, rules, standing)
        self._tell(facts, rules)
        if facts.stage is Stage.UNOPENED:
            self._prover.stop()
            return reason or self._open(facts, rules)
        if not facts.record.opened_at:
            self._prover.stop()
            return "nobody has opened the epoch"
        return self._prove(facts, rules, reason)

    # ------------------------------------------------------------------ the steps

    def _open(self, facts: Facts, rules: Rules) -> str:
        delay = stagger(facts.owner, facts.epoch, "open", rules.open_period)
        if facts.now >= rules.start(facts.epoch) + delay:
            data, until = self._contract.open(facts.epoch), rules.opened_until(facts.epoch)
            self._attempts.begin(str(facts.epoch), "open", data, deadline=until)
        return "waiting for the epoch to be opened"

    def _prove(self, facts: Facts, rules: Rules, reason: str) -> str:
        """An epoch that was opened: rounds, commits, the draw, the openings."""
        challenge = pog.challenge(
            self._chain_id,
            self._contract.address,
            facts.epoch,
            facts.record.beacon,
            facts.owner,
            rules.shape,
        )
        # Another beacon, after a reorg, is another proof, with intents and a folder of its own.
        name = f"{facts.epoch}-{challenge.hex()[:8]}"
        folder = ProofFolder(self._folders / name)
        self._abandon_others(name)
        if facts.stage is Stage.WINDOW:
            if reason:
                self._prover.stop()
                self._missed_because = reason
                return reason
            folder.create(self._task(challenge, rules, self._settings.device))
            return self._work(facts, rules, folder, name)
        committed = self._commits.committed(facts, name)
        self._count(folder, committed)
        if facts.stage is Stage.DRAW:
            self._draw(facts, rules)
        if not facts.ours:
            self._prover.stop()
            return self._ending(facts, rules)
        if facts.stage is Stage.SAMPLES and facts.proof.verified < rules.samples:
            # The bond is at stake: a slow device is better than one that a job has filled.
            gave_up = self._prover.failures >= _FAILURES
            device = _LAST_DEVICE if gave_up else self._settings.device
            folder.create(self._task(challenge, rules, device))
            return self._openings.open(facts, rules, folder, name)
        self._prover.stop()
        return self._ending(facts, rules)

    def _draw(self, facts: Facts, rules: Rules) -> None:
        """At once, and without a commitment too: who alone decides whether and in which block the
        draw is made can look at it first (docs/soundness.md, "Choosing the block").
        """
        until = rules.draw_until(facts.record.opened_at)
        data = self._contract.draw(facts.epoch)
        self._attempts.begin(str(facts.epoch), "draw", data, deadline=until)

    def _task(self, challenge: bytes, rules: Rules, device: str) -> Task:
        return Task(challenge, rules.shape, device, rules.turn_seconds())

    def _work(self, facts: Facts, rules: Rules, folder: ProofFolder, name: str) -> str:
        """In the window: rounds, and commits to them."""
        done = self._commits.is_done(facts, rules, name)
        done = done or self._commits.rounds(folder) == MAX_ROUNDS
        paused = not done and not self._settings.with_jobs and self._busy()
        if done or paused:
            self._prover.stop()
        else:
            self._prover.prove(folder)
        self._commits.commit(facts, rules, folder, name)
        self._count(folder, self._commits.committed(facts, name), paused)
        self._missed_because = _BUSY if paused else self._prover.trouble or "too few rounds"
        if self._commits.is_strange(facts, folder, name):
            return _STRANGE
        return _BUSY if paused else "waiting for the window to end" if done else "proving"

    def _abandon_others(self, name: str) -> None:
        """A commitment to another challenge must not land any more: nobody could open it."""
        for intent in self._store.intents_in(*UNDECIDED):
            key = intent.key
            is_commit = key.contract == CONTRACT and key.action.startswith("commit")
            if is_commit and key.object_id != name and not intent.cancel:
                self._attempts.abandon(intent, "the epoch is over or was opened anew")

    def _prune(self, epoch: int) -> None:
        """Delete the folders of other epochs: what was not opened in time cannot be opened."""
        if not self._folders.is_dir():
            return
        for path in self._folders.iterdir():
            if path.name.partition("-")[0] != str(epoch):
                self._prover.leave(path)
                ProofFolder(path).remove()

    # ------------------------------------------------------------------ what is said and shown

    def _ending(self, facts: Facts, rules: Rules) -> str:
        if facts.stage is Stage.VOID:
            return "nobody has drawn in time: the epoch is void"
        if not facts.ours and self._is_settled(facts, rules):
            why = f": {self._missed_because}" if self._missed_because else ""
            return f"the window was missed{why}"
        if facts.ours and facts.stage is Stage.SAMPLES:
            return "all samples verified"
        return "waiting for the draw"

    def _tell(self, facts: Facts, rules: Rules) -> None:
        """Log how an epoch has ended, and count it, once."""
        epoch, proof = facts.epoch, facts.proof
        if facts.earlier is not None:
            drawn = facts.earlier.drawn_at
            cost = f"{rules.bond / 10**18:g} TPF can be slashed"
            if drawn and facts.now <= rules.fault_until(proof.epoch):
                self._outcome(proof.epoch, "failed", f"was not opened in time; {cost}")
        if facts.stage is Stage.SKIPPED:
            self._outcome(epoch, "unopened", "nobody has opened it in time")
        elif facts.stage is Stage.VOID:
            self._outcome(epoch, "void", "nobody has drawn in time")
        elif facts.stage in _AFTER_WINDOW and not facts.ours and self._is_settled(facts, rules):
            self._outcome(epoch, "missed", self._ending(facts, rules))
        elif facts.ours and proof.verified == rules.samples:
            rate = rules.score(proof.rounds) / 10**12
            said = f"{proof.rounds} rounds verified, {rate:.6g} tera-operations a second"
            self._outcome(epoch, "scored", said)

    def _is_settled(self, facts: Facts, rules: Rules) -> bool:
        """Whether no commit can turn up any more: the pinned block is behind the newest one."""
        return facts.now >= rules.draw_from(facts.record.opened_at)

    def _outcome(self, epoch: int, outcome: str, said: str) -> None:
        if (epoch, outcome) in self._outcomes:
            return
        self._outcomes = {known for known in self._outcomes if known[0] >= epoch - 1}
        self._outcomes.add((epoch, outcome))
        level = logging.INFO if outcome == "scored" else logging.WARNING
        log.log(level, "proof of epoch %s: %s", epoch, said)
        self._on_outcome(outcome)

    def _begin_report(self, facts: Facts, rules: Rules) -> None:
        if self.report.epoch != facts.epoch:
            self._missed_because = ""
        self._draft = ProofReport(
            self._settings.device,
            epoch=facts.epoch,
            stage=facts.stage.value,
            rounds=self.report.rounds if self.report.epoch == facts.epoch else 0,
            committed_rounds=facts.proof.rounds if facts.ours else 0,
            verified=facts.proof.verified if facts.ours else 0,
            samples=rules.samples,
            score=facts.score,
        )

    def _count(self, folder: ProofFolder, committed: int, paused: bool = False) -> None:
        self._draft = replace(
            self._draft,
            rounds=self._commits.rounds(folder),
            committed_rounds=committed,
            paused=paused,
        )

    def _show(self, note: str) -> None:
        """Keep the report for `status`; log what is news."""
        before = self._written[0] if self._written else None
        self.report = replace(self._draft, note=note)
        if before is None or before.note != note:
            epoch = "" if self.report.epoch is None else f" of epoch {self.report.epoch}"
            log.info("proof%s: %s", epoch, note)
        now = time.monotonic()
        only_counts = before is not None and before == replace(
            self.report, rounds=before.rounds, verified=before.verified
        )
        recent = self._written is not None and now - self._written[1] < _KEEP_REPORT
        if self.report != before and not (only_counts and recent):
            self._store.set_meta(REPORT, self.report.to_text())
            self._written = (self.report, now)
