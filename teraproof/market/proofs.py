# SPDX-License-Identifier: Apache-2.0
"""Proof-of-GPU as people look at it and push it on: open, close, draw, report, settle, release.

Agents do all of it by themselves; what anyone may do, a person can do here as well. Throughput is
in integer operations per second, amounts are TPF wei, times unix seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_rate, show_seconds, show_time, show_tpf
from teraproof.contracts.base import Event
from teraproof.contracts.benchmark import (
    Committed,
    EpochRecord,
    Failed,
    ProofRecord,
    Scored,
    Withdrawn,
)
from teraproof.epochs import rules_of
from teraproof.errors import CommandError, WrongInput
from teraproof.market.lottery import Lottery, Winner
from teraproof.market.market import Market, transact
from teraproof.market.providers import require_registered
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.pog.schedule import Rules, Stage
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import Receipt

_EVENTS = (Committed, Scored, Failed, Withdrawn)
_SOURCES = (
    "prevrandao of a named block",
    "hash of a named block",
    "hash of a named block (ArbSys)",
)
_EPOCHS_SHOWN = 8


@dataclass(frozen=True)
class Epoch:
    """An epoch as the chain has it at the time `now`."""

    number: int
    stage: Stage
    record: EpochRecord
    now: int


@dataclass(frozen=True)
class Entry:
    """What a provider has done in an epoch. `score` and `slashed` are None until decided."""

    provider: str
    rounds: int
    stake: int
    verified: int | None
    """Samples; None when a later proof has taken the place of this one."""
    score: int | None = None
    slashed: int | None = None


# ---------------------------------------------------------------------- reading


def current(market: Market, rules: Rules) -> Epoch:
    """The newest epoch; number 0 and `Stage.NONE` before the first."""
    return _read(market, rules, market.benchmark.current_epoch("latest"))


def read(market: Market, rules: Rules, number: int) -> Epoch:
    """An epoch by its number. CommandError when no window has opened it."""
    newest = market.benchmark.current_epoch("latest")
    if not 1 <= number <= newest:
        last = f"the newest epoch is {newest}" if newest else "no window has opened yet"
        raise WrongInput(f"there is no epoch {number}: {last}")
    return _read(market, rules, number)


def _read(market: Market, rules: Rules, number: int) -> Epoch:
    now = market.now()
    record = market.benchmark.epoch_of(number, "latest")
    return Epoch(number, rules.stage(record, now), record, now)


def entries(market: Market, numbers: Sequence[int]) -> dict[int, list[Entry]]:
    """Epoch -> what providers did in it, the highest score first, by the events of these epochs."""
    start = market.registry.start_block
    found: dict[tuple[int, str], dict[type[Event], Event]] = {}
    for event in market.benchmark.find_any(_EVENTS, start, epoch=list(numbers)):
        assert isinstance(event, _EVENTS)
        happened = found.setdefault((event.epoch, event.provider), {})
        happened[type(event)] = event
        if isinstance(event, Withdrawn):  # another commit may follow
            happened.pop(Committed, None)
    result: dict[int, list[Entry]] = {number: [] for number in numbers}
    for (number, provider), happened in found.items():
        committed = happened.get(Committed)
        scored, failed = happened.get(Scored), happened.get(Failed)
        if not isinstance(committed, Committed):
            continue  # withdrawn, or the node has cut its logs
        proof = market.benchmark.proof_of(provider, "latest")
        result[number].append(
            Entry(
                provider=provider,
                rounds=committed.rounds,
                stake=scored.stake if isinstance(scored, Scored) else committed.stake,
                verified=proof.verified if proof.epoch == number and proof.rounds else None,
                score=scored.score if isinstance(scored, Scored) else None,
                slashed=failed.slashed if isinstance(failed, Failed) else None,
            )
        )
    for listed in result.values():
        listed.sort(key=lambda entry: (-(entry.score or 0), -entry.rounds))
    return result


def reportable(market: Market, rules: Rules, newest: Epoch) -> list[tuple[int, str]]:
    """(epoch, provider) of proofs that were not opened in time and cost the bond now."""
    first = max(1, newest.number - _EPOCHS_SHOWN)
    listed = [_read(market, rules, number) for number in range(first, newest.number + 1)]
    failed = [
        epoch.number
        for epoch in listed
        if epoch.stage is Stage.OVER
        and any(epoch.record.draw)
        and epoch.now <= rules.fault_until(epoch.record.ends_at)
    ]
    if not failed:
        return []  # an empty filter would mean every epoch
    return [
        (number, entry.provider)
        for number, found in entries(market, failed).items()
        for entry in found
        if entry.verified is not None and entry.verified < rules.samples
    ]


def winner(market: Market, rules: Rules) -> Winner | None:
    """The boundary that has won and can be presented now."""
    newest = market.benchmark.epoch_of(market.benchmark.current_epoch("latest"), "latest")
    pace, head = Pace(market.chain.pool), market.chain.head()
    pace.see(head)
    lottery = Lottery(market.benchmark, pace)
    return lottery.winner(rules, head, rules.next_window_from(newest.opened_at))


# ---------------------------------------------------------------------- showing


def show(market: Market, ui: Ui, number: int | None = None) -> dict[str, Any]:
    """An epoch, by default the newest one, with its proofs, and what can be reported. Returns it as
    JSON values: throughput in operations per second, stakes in TPF wei, as text.
    """
    rules = rules_of(market.benchmark, "latest")
    epoch = current(market, rules) if number is None else read(market, rules, number)
    title = f"Epoch {epoch.number}" if epoch.number else "No epoch yet"
    ui.table(title, ("what", "value"), _epoch_rows(market, rules, epoch))
    listed = entries(market, [epoch.number])[epoch.number] if epoch.number else []
    if not listed:
        ui.note("no provider has committed to a proof in this epoch")
    else:
        rows = [_entry_row(rules, epoch, entry) for entry in listed]
        columns = ("provider", "rounds", "throughput", "stake", "samples", "outcome")
        ui.table("Proofs", columns, rows)
    late = reportable(market, rules, epoch) if number is None else []
    for old, provider in late:
        ui.note(f"{provider} has not opened its proof of epoch {old}: proof fail")
    record = epoch.record
    return {
        "epoch": epoch.number,
        "stage": epoch.stage.name.lower(),
        "opened_at": record.opened_at or None,
        "ends_at": record.ends_at or None,
        "proofs": [
            {
                "provider": entry.provider,
                "rounds": entry.rounds,
                "stake": str(entry.stake),
                "samples": entry.verified,
                "throughput": None if entry.score is None else str(entry.score),
                "burned": None if entry.slashed is None else str(entry.slashed),
            }
            for entry in listed
        ],
        "reportable": [{"epoch": old, "provider": provider} for old, provider in late],
    }


def show_provider(market: Market, ui: Ui, provider: str) -> dict[str, Any]:
    """A provider's last proof, its bond and its score; the same as JSON values."""
    require_registered(market, provider)
    rules = rules_of(market.benchmark, "latest")
    proof, now = market.benchmark.proof_of(provider, "latest"), market.now()
    proven = market.benchmark.proven(provider, "latest")
    score = market.benchmark.score(provider, "latest")
    rows = [
        ("proven throughput", _proven(proven.score, proven.until, score, now)),
        ("bond", _bond(rules, proof, now)),
    ]
    if proof.rounds:
        epoch = read(market, rules, proof.epoch)
        rows += [
            (
                "last proof",
                f"epoch {proof.epoch}, opened {show_time(epoch.record.opened_at, now)}",
            ),
            ("rounds", f"{proof.rounds:,}, worth {show_rate(rules.score(proof.rounds))}"),
            ("commitment", "0x" + proof.commitment.hex()),
            ("stake", show_tpf(proof.stake)),
            ("samples", f"{proof.verified} of {rules.samples} verified"),
            ("state", _state(rules, proof, epoch)),
        ]
    ui.table(f"Proof of {provider}", ("what", "value"), rows)
    return {
        "provider": provider,
        "throughput": str(score),
        "valid_until": proven.until or None,
        "epoch": proof.epoch if proof.rounds else None,
        "rounds": proof.rounds,
        "samples": proof.verified,
        "bond_until": proof.bond_until or None,
    }


def _proven(proven: int, until: int, backed: int, now: int) -> str:
    if not proven or now > until:
        return "none (no valid score)"
    shown = f"{show_rate(proven)}, valid until {show_time(until, now)}"
    return shown if backed == proven else f"{shown}; the stake backs {show_rate(backed)} of it"


def _epoch_rows(market: Market, rules: Rules, epoch: Epoch) -> list[tuple[str, str]]:
    record, now = epoch.record, epoch.now
    rows = [("stage", _told(rules, epoch))]
    if record.opened_at:
        rows += [
            ("opened", show_time(record.opened_at, now)),
            ("window ends", show_time(rules.window_end(record.opened_at), now)),
            ("ends", show_time(record.ends_at, now)),
            ("beacon", "0x" + record.beacon.hex()),
        ]
    if record.target:
        rows.append(("block of the draw", f"{record.target:,}"))
    if any(record.draw):
        rows.append(("draw", "0x" + record.draw.hex()))
    if epoch.number:
        share = market.benchmark.share_of(market.benchmark.address, epoch.number, "latest")
        if share.total:
            rows.append(("effective scores in total", show_rate(share.total)))
    earliest = _next_window(rules, epoch)
    chance = rules.chance_ppm / 10_000
    rows += [
        ("next window", f"{show_time(earliest, now)} at the earliest"),
        ("lottery", f"{chance:g} % every {show_seconds(rules.slot)}"),
        ("randomness", _SOURCES[rules.source]),
        (
            "products",
            f"{rules.shape.n:,} x {rules.shape.depth:,} x {rules.shape.n:,}, "
            f"{rules.samples} samples, window {show_seconds(rules.window)}",
        ),
    ]
    return rows


def _next_window(rules: Rules, newest: Epoch) -> int:
    """The earliest moment at which the window after the newest one can open."""
    return max(rules.next_boundary(newest.now), rules.next_window_from(newest.record.opened_at))


def _told(rules: Rules, epoch: Epoch) -> str:
    """Where the epoch stands and until when."""
    record, now = epoch.record, epoch.now
    opened = record.opened_at
    return {
        Stage.NONE: "no window has opened yet",
        Stage.WINDOW: f"commits until {show_time(rules.window_end(opened), now)}",
        Stage.CLOSE: f"to be closed, until {show_time(rules.close_until(opened), now)}",
        Stage.DRAW: f"to be drawn from block {record.target:,}, "
        f"until {show_time(rules.draw_until(opened), now)}",
        Stage.VOID: "void: nobody closed or drew in time; nobody loses anything",
        Stage.SAMPLES: f"samples are opened until {show_time(record.ends_at, now)}",
        Stage.OVER: "over",
    }[epoch.stage]


def _entry_row(rules: Rules, epoch: Epoch, entry: Entry) -> tuple[str, ...]:
    verified = "" if entry.verified is None else f"{entry.verified} of {rules.samples}"
    if entry.score is not None:
        verified, outcome = f"{rules.samples} of {rules.samples}", "proven"
    elif entry.slashed is not None:
        outcome = f"failed, {show_tpf(entry.slashed)} burned"
    elif rules.is_void(epoch.record, epoch.now):
        outcome = "void"
    elif epoch.stage is Stage.OVER:
        outcome = "not opened"
    else:
        outcome = "open"
    return (
        entry.provider,
        f"{entry.rounds:,}",
        show_rate(entry.score if entry.score is not None else rules.score(entry.rounds)),
        show_tpf(entry.stake),
        verified,
        outcome,
    )


def _bond(rules: Rules, proof: ProofRecord, now: int) -> str:
    if not proof.bond_until:
        return f"none locked; the next commit locks {show_tpf(rules.bond)}"
    return f"{show_tpf(rules.bond)}, locked until {show_time(proof.bond_until, now)}"


def _state(rules: Rules, proof: ProofRecord, epoch: Epoch) -> str:
    if proof.verified == rules.samples:
        return "proven, reward paid" if proof.settled else "proven"
    if rules.is_void(epoch.record, epoch.now):
        return "void: nobody closed or drew in time"
    if epoch.stage is not Stage.OVER:
        return _told(rules, epoch)
    until = rules.fault_until(epoch.record.ends_at)
    if epoch.now <= until:
        return f"NOT OPENED: anyone can report it until {show_time(until, epoch.now)}"
    return "not opened, and nobody reported it in time"


# ---------------------------------------------------------------------- doing


def open_epoch(market: Market, sender: Sender, ui: Ui) -> Receipt:
    """Present the boundary that has won. CommandError when there is none now."""
    rules = rules_of(market.benchmark, "latest")
    found = winner(market, rules)
    if found is None:
        epoch = current(market, rules)
        raise CommandError(
            "no boundary that can be presented now has won; the next window can open "
            f"{show_time(_next_window(rules, epoch), epoch.now)}"
        )
    ui.ask(f"Open a window with block {found.block.number:,}? All providers prove in the same one")
    data = market.benchmark.open(found.block.number, found.block.data, found.parent.data)
    return transact(sender, ui, "open a window", market.benchmark, data)


def close(market: Market, sender: Sender, ui: Ui) -> Receipt:
    """Name the block of the draw, once the window is over. CommandError when it is not the time."""
    rules = rules_of(market.benchmark, "latest")
    epoch = current(market, rules)
    if epoch.stage is not Stage.CLOSE:
        raise CommandError(f"epoch {epoch.number} cannot be closed: {_told(rules, epoch)}")
    ui.ask(f"Close epoch {epoch.number}? The draw is that of a block {rules.draw_delay} blocks on")
    label = f"close epoch {epoch.number}"
    return transact(sender, ui, label, market.benchmark, market.benchmark.close(epoch.number))


def draw(market: Market, sender: Sender, ui: Ui) -> Receipt:
    """Read the draw from the block that was named. CommandError when it is not the time."""
    rules = rules_of(market.benchmark, "latest")
    epoch = current(market, rules)
    if epoch.stage is not Stage.DRAW:
        raise CommandError(f"epoch {epoch.number} cannot be drawn: {_told(rules, epoch)}")
    head = market.chain.head().number
    if head < epoch.record.target:
        raise CommandError(
            f"epoch {epoch.number} cannot be drawn: its block {epoch.record.target:,} is not "
            f"there yet, the newest is {head:,}; try again"
        )
    ui.ask(f"Draw the samples of epoch {epoch.number}?")
    header = market.chain.pool.header(epoch.record.target)
    label = f"draw epoch {epoch.number}"
    data = market.benchmark.draw(epoch.number, header.data)
    return transact(sender, ui, label, market.benchmark, data)


def settle(market: Market, sender: Sender, ui: Ui, provider: str) -> Receipt:
    """End what a provider's last epoch is owed, so that new stake is active (anyone)."""
    require_registered(market, provider)
    if not market.staking.is_unsettled(provider, "latest"):
        raise CommandError(f"{provider} has no unsettled epoch")
    rules = rules_of(market.benchmark, "latest")
    proof = market.benchmark.proof_of(provider, "latest")
    epoch = read(market, rules, proof.epoch)
    binds = rules.binds(epoch.record, proof.rounds, proof.verified, epoch.now)
    if binds or (proof.verified == rules.samples and epoch.stage is not Stage.OVER):
        raise CommandError(
            f"epoch {proof.epoch} of {provider} cannot be settled yet: "
            f"{_state(rules, proof, epoch)}"
        )
    return transact(sender, ui, "settle", market.benchmark, market.benchmark.settle(provider))


def withdraw(market: Market, sender: Sender, ui: Ui) -> Receipt:
    """Take the account's own commitment back while the window lasts (the owner)."""
    require_registered(market, sender.address)
    rules = rules_of(market.benchmark, "latest")
    proof = market.benchmark.proof_of(sender.address, "latest")
    if not proof.rounds:
        raise CommandError(f"{sender.address} has no proof that could be withdrawn")
    epoch = read(market, rules, proof.epoch)
    if epoch.stage is not Stage.WINDOW:
        raise CommandError(
            f"the proof of epoch {proof.epoch} cannot be withdrawn: {_state(rules, proof, epoch)}"
        )
    ui.ask(
        f"Take back the proof of epoch {proof.epoch}? Its {proof.rounds:,} rounds will not count"
    )
    data = market.benchmark.withdraw_proof()
    return transact(sender, ui, "withdraw the proof", market.benchmark, data)


def fail(market: Market, sender: Sender, ui: Ui, provider: str) -> Receipt:
    """Report a proof that was not opened in time. CommandError when there is none."""
    require_registered(market, provider)
    rules = rules_of(market.benchmark, "latest")
    proof = market.benchmark.proof_of(provider, "latest")
    if not proof.rounds:
        raise CommandError(f"{provider} has no proof that could fail")
    epoch = read(market, rules, proof.epoch)
    bound = rules.binds(epoch.record, proof.rounds, proof.verified, epoch.now)
    if not bound or epoch.stage is not Stage.OVER:
        raise CommandError(
            f"the proof of {provider} in epoch {proof.epoch} cannot be reported: "
            f"{_state(rules, proof, epoch)}"
        )
    ui.ask(
        f"Report {provider}, which opened {proof.verified} of {rules.samples} samples of epoch "
        f"{proof.epoch}? Up to {show_tpf(rules.bond)} of its pool are burned"
    )
    data = market.benchmark.fail(provider)
    receipt = transact(sender, ui, "report a failed proof", market.benchmark, data)
    for log in receipt.logs:
        event = market.benchmark.decode(log)
        if isinstance(event, Failed):
            ui.step(f"{show_tpf(event.slashed)} burned, its score is gone")
    return receipt


def release_bond(market: Market, sender: Sender, ui: Ui, provider: str) -> Receipt:
    """Unlock a provider's bond (its owner or operator). CommandError when it is bound."""
    require_registered(market, provider)
    rules = rules_of(market.benchmark, "latest")
    proof = market.benchmark.proof_of(provider, "latest")
    if not proof.bond_until:
        raise CommandError(f"{provider} has no bond locked")
    if sender.address not in (provider, market.staking.operator_of(provider, "latest")):
        raise CommandError(f"{sender.address} is neither the owner nor the operator of {provider}")
    if market.benchmark.is_open(provider, "latest"):
        epoch = read(market, rules, proof.epoch)
        raise CommandError(
            f"the bond is bound by the proof of epoch {proof.epoch}: {_state(rules, proof, epoch)}"
        )
    ui.ask(f"Release the bond of {show_tpf(rules.bond)}? The next commit locks it again")
    data = market.benchmark.release_bond(provider)
    return transact(sender, ui, "release the bond", market.benchmark, data)


def scored(market: Market, provider: str) -> dict[int, Scored]:
    """Epoch -> what `Scored` says of a provider, in the order of the epochs."""
    events = market.benchmark.find(Scored, market.registry.start_block, provider=provider)
    return dict(sorted((event.epoch, event) for event in events))


def of_provider(market: Market, provider: str) -> list[int]:
    """The epochs in which a provider has a score, in their order."""
    return list(scored(market, provider))
