# SPDX-License-Identifier: Apache-2.0
"""Proof-of-GPU as people look at it and push it on: open, draw, report, release a bond.

Agents do all of it by themselves; what anyone may do, a person can do here as well. Speeds are
integer operations a second, amounts TPF wei, times unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provider_agent.benchmark.schedule import Rules, Stage
from provider_agent.chain.contracts import EpochRecord, ProofRecord
from provider_agent.chain.rpc import Receipt
from scripts.market.amounts import show_rate, show_seconds, show_time, show_tpf
from scripts.market.contracts import address_topic, word_topic
from scripts.market.errors import ScriptError
from scripts.market.market import Market, transact
from scripts.market.providers import require_registered
from scripts.market.sending import Sender
from scripts.market.ui import Ui

_EVENTS = ("Committed", "Scored", "Failed", "Withdrawn")
_SOURCES = ("prevrandao", "hash of the previous block", "hash of the previous block (ArbSys)")


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
    """The epoch of the newest block. ScriptError before the first."""
    now = market.now()
    number = rules.number(now)
    if number is None:
        raise ScriptError(f"the first epoch begins {show_time(rules.genesis, now)}; wait for it")
    return read(market, rules, number, now)


def read(market: Market, rules: Rules, number: int, now: int | None = None) -> Epoch:
    """An epoch by its number. ScriptError when it has not begun."""
    now = market.now() if now is None else now
    if now < rules.start(number):
        raise ScriptError(
            f"epoch {number} begins {show_time(rules.start(number), now)}; wait for it"
        )
    record = market.benchmark_events.epoch_of(number, "latest")
    stage = rules.stage(number, record.opened_at, record.drawn_at, now)
    return Epoch(number, stage, record, now)


def entries(market: Market, numbers: Sequence[int]) -> dict[int, list[Entry]]:
    """Epoch -> what providers did in it, the highest score first, by the events of these epochs."""
    wanted = [word_topic(number.to_bytes(32, "big")) for number in numbers]
    logs = market.benchmark.logs(_EVENTS, market.registry.start_block, [wanted])
    found: dict[tuple[int, str], dict[str, Mapping[str, Any]]] = {}
    for log in logs:
        decoded = market.benchmark.abi.decode_log(log)
        if decoded is not None:
            name, values = decoded
            events = found.setdefault((values["epoch"], values["provider"]), {})
            events[name] = values
            if name == "Withdrawn":  # another commit may follow
                events.pop("Committed", None)
    result: dict[int, list[Entry]] = {number: [] for number in numbers}
    for (number, provider), events in found.items():
        if "Committed" not in events:
            continue  # withdrawn, or the node has cut its logs
        committed, scored, failed = events["Committed"], events.get("Scored"), events.get("Failed")
        proof = market.benchmark_events.proof_of(provider, "latest")
        result[number].append(
            Entry(
                provider=provider,
                rounds=int(committed["rounds"]),
                stake=int((scored or committed)["stake"]),
                verified=proof.verified if proof.epoch == number and proof.rounds else None,
                score=None if scored is None else int(scored["score"]),
                slashed=None if failed is None else int(failed["slashed"]),
            )
        )
    for listed in result.values():
        listed.sort(key=lambda entry: (-(entry.score or 0), -entry.rounds))
    return result


def reportable(market: Market, rules: Rules, epoch: Epoch) -> list[tuple[int, str]]:
    """(epoch, provider) of proofs of earlier epochs that were not opened and cost the bond now."""
    first = max(0, epoch.number - -(-rules.fault_period // rules.epoch))
    earlier = [n for n in range(first, epoch.number) if epoch.now <= rules.fault_until(n)]
    drawn = [n for n in earlier if market.benchmark_events.epoch_of(n, "latest").drawn_at]
    if not drawn:
        return []  # an empty filter would mean every epoch
    return [
        (number, entry.provider)
        for number, listed in entries(market, drawn).items()
        for entry in listed
        if entry.verified is not None and entry.verified < rules.samples
    ]


# ---------------------------------------------------------------------- showing


def show(market: Market, ui: Ui, number: int | None = None) -> None:
    """An epoch, by default the current one, with its proofs, and what can be reported."""
    rules = market.benchmark_events.rules("latest")
    epoch = current(market, rules) if number is None else read(market, rules, number)
    ui.table(f"Epoch {epoch.number}", ("what", "value"), _epoch_rows(market, rules, epoch))
    listed = entries(market, [epoch.number])[epoch.number]
    if not listed:
        ui.note("no provider has committed to a proof in this epoch")
    else:
        rows = [_entry_row(rules, epoch, entry) for entry in listed]
        columns = ("provider", "rounds", "speed", "stake", "samples", "outcome")
        ui.table("Proofs", columns, rows)
    if number is None:
        for old, provider in reportable(market, rules, epoch):
            ui.note(f"{provider} has not opened its proof of epoch {old}: ape run proof fail")


def show_provider(market: Market, ui: Ui, provider: str) -> None:
    """A provider's last proof, its bond and its score."""
    require_registered(market, provider)
    rules = market.benchmark_events.rules("latest")
    proof, now = market.benchmark_events.proof_of(provider, "latest"), market.now()
    score = market.benchmark_events.score(provider, "latest")
    rows = [
        ("proven speed", show_rate(score) if score else "none that counts now"),
        ("bond", _bond(rules, proof, now)),
    ]
    if proof.rounds:
        rows += [
            ("last proof", f"epoch {proof.epoch}, which began {_began(rules, proof.epoch, now)}"),
            ("rounds", f"{proof.rounds:,}, worth {show_rate(rules.score(proof.rounds))}"),
            ("commitment", "0x" + proof.commitment.hex()),
            ("stake", show_tpf(proof.stake)),
            ("samples", f"{proof.verified} of {rules.samples} verified"),
            ("state", _state(rules, proof, read(market, rules, proof.epoch, now))),
        ]
    ui.table(f"Proof of {provider}", ("what", "value"), rows)


def _epoch_rows(market: Market, rules: Rules, epoch: Epoch) -> list[tuple[str, str]]:
    record, now, number = epoch.record, epoch.now, epoch.number
    rows = [
        ("stage", _told(rules, epoch)),
        ("began", show_time(rules.start(number), now)),
        ("ends", show_time(rules.end(number), now)),
        ("randomness", _SOURCES[int(market.benchmark.read("RANDOMNESS"))]),
        (
            "products",
            f"{rules.shape.n:,} x {rules.shape.depth:,} x {rules.shape.n:,}, "
            f"{rules.samples} samples, window {show_seconds(rules.window)}",
        ),
    ]
    if record.opened_at:
        rows += [
            ("opened", show_time(record.opened_at, now)),
            ("window ends", show_time(rules.window_end(record.opened_at), now)),
            ("beacon", "0x" + record.beacon.hex()),
        ]
    if record.drawn_at:
        rows.append(("drawn", show_time(record.drawn_at, now)))
        rows.append(("draw", "0x" + record.draw.hex()))
    _, _, scores, stakes = market.benchmark.read("share_of", market.benchmark.address, number)
    if scores:
        rows.append(("proven in all", f"{show_rate(scores)}, behind {show_tpf(stakes)}"))
    return rows


def _told(rules: Rules, epoch: Epoch) -> str:
    """Where the epoch stands and until when."""
    record, now, number = epoch.record, epoch.now, epoch.number
    opened = record.opened_at
    return {
        Stage.UNOPENED: f"to be opened, until {show_time(rules.opened_until(number), now)}",
        Stage.SKIPPED: "skipped: nobody opened it in time",
        Stage.WINDOW: f"commits until {show_time(rules.window_end(opened), now)}",
        Stage.DELAY: f"waits; the draw begins {show_time(rules.draw_from(opened), now)}",
        Stage.DRAW: f"to be drawn, until {show_time(rules.draw_until(opened), now)}",
        Stage.VOID: "void: nobody drew in time; nobody loses anything",
        Stage.SAMPLES: f"samples are opened until {show_time(rules.end(number), now)}",
        Stage.OVER: "over",
    }[epoch.stage]


def _entry_row(rules: Rules, epoch: Epoch, entry: Entry) -> tuple[str, ...]:
    verified = "" if entry.verified is None else f"{entry.verified} of {rules.samples}"
    if entry.score is not None:
        verified, outcome = f"{rules.samples} of {rules.samples}", "proven"
    elif entry.slashed is not None:
        outcome = f"failed, {show_tpf(entry.slashed)} burned"
    elif epoch.stage is Stage.VOID or (not epoch.record.drawn_at and epoch.stage is Stage.OVER):
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


def _began(rules: Rules, number: int, now: int) -> str:
    return show_time(rules.start(number), now)


def _bond(rules: Rules, proof: ProofRecord, now: int) -> str:
    if not proof.bond_until:
        return f"none locked; the next commit locks {show_tpf(rules.bond)}"
    return f"{show_tpf(rules.bond)}, locked until {show_time(proof.bond_until, now)}"


def _state(rules: Rules, proof: ProofRecord, epoch: Epoch) -> str:
    if proof.verified == rules.samples:
        return "proven"
    if epoch.stage is not Stage.OVER:
        return _told(rules, epoch)
    if not epoch.record.drawn_at:
        return "void: nobody drew in time"
    until = rules.fault_until(proof.epoch)
    if epoch.now <= until:
        return f"NOT OPENED: anyone can report it until {show_time(until, epoch.now)}"
    return "not opened, and nobody reported it in time"


# ---------------------------------------------------------------------- doing


def open_epoch(market: Market, sender: Sender, ui: Ui) -> Receipt:
    """Begin the window of the current epoch. ScriptError when it is not the time."""
    rules = market.benchmark_events.rules("latest")
    epoch = current(market, rules)
    if epoch.stage is not Stage.UNOPENED:
        raise ScriptError(f"epoch {epoch.number} cannot be opened: {_told(rules, epoch)}")
    ui.ask(f"Open epoch {epoch.number}? All providers prove in the same window")
    label = f"open epoch {epoch.number}"
    return transact(sender, ui, label, market.benchmark, "open", epoch.number)


def draw(market: Market, sender: Sender, ui: Ui) -> Receipt:
    """Draw the samples of the current epoch. ScriptError when it is not the time."""
    rules = market.benchmark_events.rules("latest")
    epoch = current(market, rules)
    if epoch.stage is not Stage.DRAW:
        raise ScriptError(f"epoch {epoch.number} cannot be drawn: {_told(rules, epoch)}")
    ui.ask(f"Draw the samples of epoch {epoch.number}?")
    label = f"draw epoch {epoch.number}"
    return transact(sender, ui, label, market.benchmark, "draw", epoch.number)


def withdraw(market: Market, sender: Sender, ui: Ui) -> Receipt:
    """Take the account's own commitment back while the window lasts (the owner)."""
    require_registered(market, sender.address)
    rules = market.benchmark_events.rules("latest")
    proof = market.benchmark_events.proof_of(sender.address, "latest")
    if not proof.rounds:
        raise ScriptError(f"{sender.address} has no proof that could be withdrawn")
    epoch = read(market, rules, proof.epoch)
    if epoch.stage is not Stage.WINDOW:
        raise ScriptError(
            f"the proof of epoch {proof.epoch} cannot be withdrawn: {_state(rules, proof, epoch)}"
        )
    ui.ask(
        f"Take back the proof of epoch {proof.epoch}? Its {proof.rounds:,} rounds will not count"
    )
    return transact(sender, ui, "withdraw the proof", market.benchmark, "withdraw_proof")


def fail(market: Market, sender: Sender, ui: Ui, provider: str) -> Receipt:
    """Report a proof that was not opened in time. ScriptError when there is none."""
    require_registered(market, provider)
    rules = market.benchmark_events.rules("latest")
    proof = market.benchmark_events.proof_of(provider, "latest")
    if not proof.rounds:
        raise ScriptError(f"{provider} has no proof that could fail")
    epoch = read(market, rules, proof.epoch)
    open_still = epoch.stage is Stage.OVER and epoch.now <= rules.fault_until(proof.epoch)
    if proof.verified == rules.samples or not epoch.record.drawn_at or not open_still:
        raise ScriptError(
            f"the proof of {provider} in epoch {proof.epoch} cannot be reported: "
            f"{_state(rules, proof, epoch)}"
        )
    ui.ask(
        f"Report {provider}, which opened {proof.verified} of {rules.samples} samples of epoch "
        f"{proof.epoch}? Up to {show_tpf(rules.bond)} of its pool are burned"
    )
    receipt = transact(sender, ui, "report a failed proof", market.benchmark, "fail", provider)
    for log in receipt.logs:
        decoded = market.benchmark.abi.decode_log(log)
        if decoded is not None and decoded[0] == "Failed":
            ui.step(f"{show_tpf(decoded[1]['slashed'])} burned, its score is gone")
    return receipt


def release_bond(market: Market, sender: Sender, ui: Ui, provider: str) -> Receipt:
    """Unlock a provider's bond (its owner or operator). ScriptError when it is bound."""
    require_registered(market, provider)
    rules = market.benchmark_events.rules("latest")
    proof = market.benchmark_events.proof_of(provider, "latest")
    if not proof.bond_until:
        raise ScriptError(f"{provider} has no bond locked")
    if sender.address not in (provider, market.staking_events.operator_of(provider, "latest")):
        raise ScriptError(f"{sender.address} is neither the owner nor the operator of {provider}")
    if bool(market.benchmark.read("is_open", provider)):
        epoch = read(market, rules, proof.epoch)
        raise ScriptError(
            f"the bond is bound by the proof of epoch {proof.epoch}: {_state(rules, proof, epoch)}"
        )
    ui.ask(f"Release the bond of {show_tpf(rules.bond)}? The next commit locks it again")
    return transact(sender, ui, "release the bond", market.benchmark, "release_bond", provider)


def of_provider(market: Market, provider: str) -> list[int]:
    """The epochs in which a provider has a score, in their order."""
    logs = market.benchmark.logs(
        ("Scored",), market.registry.start_block, [None, address_topic(provider)]
    )
    decoded = [market.benchmark.abi.decode_log(log) for log in logs]
    return sorted({int(found[1]["epoch"]) for found in decoded if found is not None})
