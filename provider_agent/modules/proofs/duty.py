# SPDX-License-Identifier: Apache-2.0
"""The benchmark duty: proves this machine's speed in each epoch, and gets the proof verified.

What is owed follows from the newest epoch on chain and from what is on the disk:

    no window is open                    -> a worker that is ready; the boundaries are watched
    a boundary has won                   -> a worker that does rounds, before that is on chain; an
                                            intent `open`, after a delay of our own
    its window is open                   -> rounds to its end; intents `commit-...` by a schedule,
                                            each with the rounds done by then
    window over                          -> intents `close`, then `draw`, after delays of our own,
                                            whether we have committed or not
    drawn, committed, not all verified   -> a worker that opens samples; intents `samples-<first>`
    nothing more can come of our proof   -> intent `settle`
    anything else                        -> no worker may be left

A missed window, a void epoch or lost rounds cost that epoch's score and nothing else. The one thing
that costs money is a commitment that is not opened: so what is committed to can be computed again
from the challenge alone, whatever is lost, and nothing is committed to what a reorg may take back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from provider_agent.core.attempts import UNDECIDED, Attempts
from provider_agent.core.standing import Provider
from provider_agent.modules.proofs.commits import Commits
from provider_agent.modules.proofs.epochs import EpochView, Facts, ProofReport, unfit
from provider_agent.modules.proofs.faults import Faults
from provider_agent.modules.proofs.opening import Openings
from provider_agent.modules.proofs.prover import Prover
from provider_agent.modules.proofs.repository import ProofsRepository
from provider_agent.modules.proofs.settings import BenchmarkSettings
from provider_agent.prover.folder import ProofFolder, Task
from provider_agent.store import Store
from teraproof.amounts import show_rate, show_tpf
from teraproof.contracts.base import Event
from teraproof.contracts.benchmark import BenchmarkContract, Committed
from teraproof.headers import HeaderError, Source
from teraproof.market.lottery import Lottery, Winner
from teraproof.pog import format as pog
from teraproof.pog.format import MAX_ROUNDS, ZERO
from teraproof.pog.schedule import Rules, Stage
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

CONTRACT = "benchmark"
REPORT = "benchmark.report"  # in the store's meta
READY = "ready"  # folder of the worker that waits for a window
_KEEP_REPORT = 5.0  # seconds between two writes of what only counts up
_BETWEEN = (Stage.NONE, Stage.OVER)
_AFTER_WINDOW = (Stage.CLOSE, Stage.DRAW, Stage.VOID, Stage.SAMPLES)
_BUSY = "paused while a job runs"
_AHEAD = "proving; the window is not on chain yet"
_STRANGE = (
    "the commitment on chain is not ours: change the operator key, and let the owner take the "
    "commitment back before the window ends"
)
_FAILURES, _LAST_DEVICE = 3, "cpu"  # failures to open samples, and what opens them after these
_QUICK, _SLOW = 0.1, 1.0  # seconds between two looks while each block counts
_LOOKS = 6  # in the time of a block


class BenchmarkDuty:
    """See the module. `busy` tells whether jobs run; `settles` whether rewards are claimed here,
    because nobody else does it. Called from one thread.
    """

    def __init__(
        self,
        *,
        settings: BenchmarkSettings,
        chain_id: int,
        pace: Pace,
        store: Store,
        contract: BenchmarkContract,
        attempts: Attempts,
        prover: Prover,
        folders: Path,
        busy: Callable[[], bool],
        settles: bool = False,
        on_outcome: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._settings, self._chain_id, self._store = settings, chain_id, store
        self._contract, self._attempts, self._prover = contract, attempts, prover
        self._folders, self._busy, self._on_outcome = folders, busy, on_outcome
        self._pace, self._settles = pace, settles
        self._proofs = ProofsRepository(store)
        self._view = EpochView(contract)
        self._lottery = Lottery(contract, pace)
        self._commits = Commits(settings, contract, attempts, pace)
        at_once = settings.openings_per_transaction
        self._openings = Openings(contract, attempts, prover, at_once)
        self._faults = Faults(self._proofs, contract, attempts)
        self._won: Winner | None = None
        self._outcomes: set[tuple[int, str]] = set()
        self._missed_because = ""
        self._written: tuple[ProofReport, float] | None = None
        #: Seconds after which the next look is wanted at the latest; None when there is no hurry.
        self.look_again: float | None = None
        #: TPF wei that the bond of the next proof needs besides what is locked already.
        self.bond_to_come = 0
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
                    self._proofs.add_proof(event.epoch, event.provider)

    def reconcile(self, block: BlockRef, head: BlockRef, provider: Provider | None) -> None:
        """Do what is owed; `block` is the pinned block, `head` the newest. Raises ChainError; what
        was written stays right.
        """
        self._draft = ProofReport(self._settings.device)
        self.look_again = None
        try:
            note = self._reconcile(block, head, provider)
        except HeaderError as error:
            # It will not get better: no block of this chain can be presented.
            note = str(error)
        else:
            note = self._prover.trouble or note
        self._show(note)

    def _reconcile(self, block: BlockRef, head: BlockRef, provider: Provider | None) -> str:
        if provider is None or not provider.operator_is_ours:
            self._prover.stop()
            self.bond_to_come = 0
            return "the operator works for no provider"
        facts = self._view.facts(block, head, provider.owner)
        rules = self._view.rules(block)
        self.bond_to_come = 0 if facts.proof.bond_until > facts.pinned_now else rules.bond
        self._begin_report(facts, rules)
        if self._settings.report_faults:
            self._faults.report(rules, facts.owner, facts.epoch, block)
        self._settle(facts, rules)
        is_in = facts.ours and facts.stage is not Stage.OVER
        reason = "" if is_in else unfit(facts, rules, provider)
        self._tell(facts, rules)
        if facts.stage in _BETWEEN:
            return self._between(facts, rules, block, head, reason)
        self._won = None
        self._prune(facts.epoch, block)
        return self._prove(facts, rules, head, reason)

    # ------------------------------------------------------------------ between two windows

    def _between(
        self, facts: Facts, rules: Rules, block: BlockRef, head: BlockRef, reason: str
    ) -> str:
        """No window is on chain: watch the boundaries. The rounds begin with the winning block, at
        the risk that a reorg makes them worthless.
        """
        from_ = rules.next_window_from(facts.record.opened_at)
        winner = self._lottery.winner(rules, head, from_)
        self._tell_unopened(facts, rules, winner)
        if winner is None:
            self._prune(facts.epoch + 1, block)
            self._hurry_to(rules.next_boundary(max(head.timestamp, from_ - 1)))
            if reason:
                self._prover.stop()
                return reason
            return self._ready(rules, from_)
        self._present(facts, rules, winner, head)
        if reason:
            self._prover.stop()
            return reason
        name, folder, challenge = self._place(facts, rules, facts.epoch + 1, winner.beacon)
        folder.create(self._task(challenge, rules, self._settings.device))
        self._abandon_others(name)
        paused = self._is_paused()
        if paused:
            self._prover.stop()
        else:
            self._prover.prove(folder)
        self._count(folder, 0, paused)
        self._draft = replace(self._draft, epoch=facts.epoch + 1, stage=Stage.WINDOW.value)
        return _BUSY if paused else _AHEAD

    def _ready(self, rules: Rules, from_: int) -> str:
        """A worker that has everything loaded, unless a job needs the device."""
        if self._is_paused():
            self._prover.stop()
            return f"waiting for a window; {_BUSY}"
        folder = ProofFolder(self._folders / READY)
        folder.create(self._task(ZERO, rules, self._settings.device))
        self._prover.wait(folder)
        wait = from_ - self._pace.now()
        return "waiting for a window" + (f", not before {from_}" if wait > 0 else "")

    def _present(self, facts: Facts, rules: Rules, winner: Winner, head: BlockRef) -> None:
        """Every agent does, also one that cannot prove: a window that nobody opens is lost to all.
        The delay costs nobody anything, since nothing is committed before it has passed.
        """
        name = f"{winner.boundary}-{winner.block.hash.hex()[:8]}"
        self._abandon_others(name, "open")
        delay = rules.open_delay(facts.owner, winner.boundary)
        until = rules.opened_until(winner.boundary)
        in_time = facts.now + self._pace.seconds <= until  # the block that takes it
        # A contract reads the hash of a block in later ones alone, also where a call is tried.
        readable = head.number > winner.block.number
        if readable and in_time and self._pace.now() >= winner.boundary + delay:
            data = self._contract.open(winner.block.number, winner.block.data, winner.parent.data)
            self._attempts.begin(name, "open", data, deadline=until)

    def _tell_unopened(self, facts: Facts, rules: Rules, winner: Winner | None) -> None:
        """Say so when a boundary has won and nobody has presented it in time."""
        won, self._won = self._won, winner
        if won is not None and winner is None and facts.now >= rules.opened_until(won.boundary):
            self._outcome(facts.epoch + 1, "unopened", "nobody has opened it in time")

    # ------------------------------------------------------------------ an epoch

    def _prove(self, facts: Facts, rules: Rules, head: BlockRef, reason: str) -> str:
        """An epoch that was opened: rounds, commits, the draw, the openings."""
        name, folder, challenge = self._place(facts, rules, facts.epoch, facts.record.beacon)
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
        if facts.stage is Stage.CLOSE:
            self._close(facts, rules, name)
        elif facts.stage is Stage.DRAW:
            self._draw(facts, rules, head, name)
        drawn = facts.stage is Stage.SAMPLES and any(facts.pinned.draw)
        if facts.ours and drawn and facts.proof.verified < rules.samples:
            # The bond is at stake: a slow device is better than one that a job has filled.
            gave_up = self._prover.failures >= _FAILURES
            device = _LAST_DEVICE if gave_up else self._settings.device
            folder.create(self._task(challenge, rules, device))
            return self._openings.open(facts, rules, folder, name)
        self._prover.stop()
        return self._ending(facts, rules)

    def _close(self, facts: Facts, rules: Rules, name: str) -> None:
        """Name the block of the draw. Whoever does it, and when, knows nothing of that block."""
        opened_at = facts.record.opened_at
        delay = rules.close_delay(facts.owner, facts.epoch)
        if self._pace.now() >= rules.window_end(opened_at) + delay:
            data, until = self._contract.close(facts.epoch), rules.close_until(opened_at)
            self._attempts.begin(name, "close", data, deadline=until)

    def _draw(self, facts: Facts, rules: Rules, head: BlockRef, name: str) -> None:
        """Read the block that was named, for everybody: without a commitment too, or an unread
        draw would be an option of those who have one.
        """
        target = facts.record.target
        if head.number <= target or not self._attempts.may_begin(name, "draw"):
            return
        if rules.source == Source.PREVRANDAO:
            header = self._contract.rpc.header(target)
            since, data = header.timestamp, self._contract.draw(facts.epoch, header.data)
        else:
            since = self._contract.rpc.block(target).timestamp
            data = self._contract.draw(facts.epoch, b"")
        if self._pace.now() >= since + rules.read_delay(facts.owner, facts.epoch):
            until = rules.draw_until(facts.record.opened_at)
            self._attempts.begin(name, "draw", data, deadline=until)

    def _settle(self, facts: Facts, rules: Rules) -> None:
        """End what holds stake that comes in: nothing more can become of our last proof."""
        proof, epoch = facts.proof, facts.proven_in
        if proof.rounds == 0 or proof.settled:
            return
        if proof.verified == rules.samples:
            due = self._settles and facts.now >= epoch.ends_at
        else:
            too_old = any(epoch.draw) and facts.now > rules.fault_until(epoch.ends_at)
            due = too_old or rules.is_void(epoch, facts.now)
        if due:
            data = self._contract.settle(facts.owner)
            self._attempts.begin(f"{proof.epoch}-{epoch.beacon.hex()[:8]}", "settle", data)

    def _work(self, facts: Facts, rules: Rules, folder: ProofFolder, name: str) -> str:
        """In the window: rounds to its end, and commits to them."""
        done = self._commits.rounds(folder) == MAX_ROUNDS
        paused = not done and self._is_paused()
        if done or paused:
            self._prover.stop()
        else:
            self._prover.prove(folder)
        self._commits.commit(facts, rules, folder, name)
        self._count(folder, self._commits.committed(facts, name), paused)
        self._missed_because = _BUSY if paused else self._prover.trouble or "too few rounds"
        if self._commits.in_last_blocks(facts, rules):
            self._hurry(self._commits.wait(facts, rules))
        if self._commits.is_strange(facts, folder, name):
            return _STRANGE
        return _BUSY if paused else "waiting for the window to end" if done else "proving"

    # ------------------------------------------------------------------ parts of these

    def _is_paused(self) -> bool:
        return not self._settings.with_jobs and self._busy()

    def _place(
        self, facts: Facts, rules: Rules, epoch: int, beacon: bytes
    ) -> tuple[str, ProofFolder, bytes]:
        """Name, folder and challenge of a proof. Another beacon, after a reorg, is another proof,
        with intents and a folder of its own.
        """
        challenge = pog.challenge(
            self._chain_id, self._contract.address, epoch, beacon, facts.owner, rules.shape
        )
        name = f"{epoch}-{challenge.hex()[:8]}"
        return name, ProofFolder(self._folders / name), challenge

    def _task(self, challenge: bytes, rules: Rules, device: str) -> Task:
        return Task(challenge, rules.shape, device, rules.turn_seconds())

    def _abandon_others(self, name: str, action: str = "commit") -> None:
        """A commitment to another challenge must not land any more: nobody could open it. A block
        that has left the chain can be presented no more.
        """
        for intent in self._store.intents_in(*UNDECIDED):
            key = intent.key
            is_such = key.contract == CONTRACT and key.action.startswith(action)
            if is_such and key.object_id != name and not intent.cancel:
                self._attempts.abandon(intent, "the epoch is over or was opened again")

    def _prune(self, epoch: int, block: BlockRef) -> None:
        """Leave the folders of other epochs. They are deleted when a later epoch is at the pinned
        block: what one endpoint says of the newest block must not cost what opens a proof.
        """
        if not self._folders.is_dir():
            return
        names = {path: path.name.partition("-")[0] for path in self._folders.iterdir()}
        others = {path: int(name) for path, name in names.items() if name.isdigit()}
        others = {path: number for path, number in others.items() if number != epoch}
        for path in others:
            self._prover.leave(path)
        if others:
            over = self._view.over_before(block, min(others.values()))
            for path, number in others.items():
                if number < over:
                    ProofFolder(path).remove()

    # ------------------------------------------------------------------ when to look again

    def _hurry(self, seconds: float) -> None:
        """Look again after `seconds`, or as soon as there may be another block."""
        quick = min(_SLOW, max(_QUICK, self._pace.seconds / _LOOKS))
        self.look_again = min(quick, seconds) if seconds > 0 else quick

    def _hurry_to(self, boundary: int) -> None:
        """Look often around a boundary that may open a window."""
        away = boundary - self._pace.now()
        if away > 0:
            self.look_again = max(_QUICK, away)
        elif away > -2 * self._pace.seconds:
            self._hurry(0)

    # ------------------------------------------------------------------ what is said and shown

    def _ending(self, facts: Facts, rules: Rules) -> str:
        if facts.stage is Stage.VOID:
            return "nobody has drawn in time: the epoch is void"
        if not facts.ours and self._is_settled(facts, rules):
            why = f": {self._missed_because}" if self._missed_because else ""
            return f"the window was missed{why}"
        if facts.ours and facts.proof.verified == rules.samples:
            return "all samples verified"
        return "waiting for the draw"

    def _tell(self, facts: Facts, rules: Rules) -> None:
        """Log how an epoch has ended, and count it, once."""
        epoch, proof, last = facts.epoch, facts.proof, facts.proven_in
        binds = rules.binds(last, proof.rounds, proof.verified, facts.now)
        if binds and facts.pinned_now >= last.ends_at:
            cost = f"{show_tpf(rules.bond)} can be slashed"
            self._outcome(proof.epoch, "failed", f"was not opened in time; {cost}")
        if facts.stage is Stage.VOID:
            self._outcome(epoch, "void", "nobody has drawn in time")
        elif facts.stage in _AFTER_WINDOW and not facts.ours and self._is_settled(facts, rules):
            self._outcome(epoch, "missed", self._ending(facts, rules))
        elif facts.ours and proof.verified == rules.samples:
            said = f"{proof.rounds} rounds verified, {show_rate(rules.score(proof.rounds))}"
            self._outcome(epoch, "scored", said)

    def _is_settled(self, facts: Facts, rules: Rules) -> bool:
        """Whether no commit can turn up any more: the pinned block is behind the newest one."""
        return facts.pinned_now >= rules.window_end(facts.record.opened_at)

    def _outcome(self, epoch: int, outcome: str, said: str) -> None:
        if (epoch, outcome) in self._outcomes:
            return
        self._outcomes = {known for known in self._outcomes if known[0] >= epoch - 1}
        self._outcomes.add((epoch, outcome))
        level = logging.INFO if outcome == "scored" else logging.WARNING
        log.log(level, "proof of epoch %s: %s", epoch, said)
        self._on_outcome(outcome)

    def _begin_report(self, facts: Facts, rules: Rules) -> None:
        epoch = facts.epoch or None
        if self.report.epoch != epoch:
            self._missed_because = ""
        self._draft = ProofReport(
            self._settings.device,
            epoch=epoch,
            stage=facts.stage.value,
            rounds=self.report.rounds if self.report.epoch == epoch else 0,
            committed_rounds=facts.proof.rounds if facts.ours else 0,
            verified=facts.proof.verified if facts.ours else 0,
            samples=rules.samples,
            score=facts.score,
            proven=facts.proven.score,
            proven_until=facts.proven.until,
            ends_at=rules.ends_at(facts.record.opened_at) if facts.epoch else 0,
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
