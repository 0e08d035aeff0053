# SPDX-License-Identifier: Apache-2.0
"""The part of the demo's story about throughput: a proof as it happens, and its reward."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rich.live import Live
from rich.table import Table

from scripts.market.stage import Stage
from teraproof.amounts import show_rate, show_seconds, show_tpf
from teraproof.client.jobs import AgentClient
from teraproof.contracts.base import Contract, Event
from teraproof.contracts.benchmark import Closed, Committed, Drawn, Opened, Scored
from teraproof.contracts.emissions import Claimed
from teraproof.epochs import rules_of
from teraproof.errors import CommandError
from teraproof.market import proofs, rewards
from teraproof.market.market import Market
from teraproof.pog.schedule import Rules

_READY_SECONDS = 2
_PHASES = ("opened", "rounds", "committed", "closed", "drawn", "samples", "score")
_EVENTS: dict[str, type[Event]] = {
    "open": Opened,
    "commit": Committed,
    "close": Closed,
    "draw": Drawn,
    "open samples": Scored,
}


@dataclass
class _Seen:
    """What the proof has come to. `at` is when each phase was first seen, seconds of this act."""

    rules: Rules
    number: int
    texts: dict[str, str]
    at: dict[str, float]
    score: int = 0


def go_to_boundary(stage: Stage, market: Market) -> None:
    """Move the chain's clock to shortly before a boundary, where a window may open. It stands there
    until `Stage.tick`: so the agent has the whole window, and time to make its prover ready.
    """
    now = market.now()
    boundary = rules_of(market.benchmark, "latest").next_boundary(now + _READY_SECONDS)
    later = boundary - _READY_SECONDS - now
    stage.pass_time(later)
    stage.ui.step(f"{show_seconds(later)} later a window is {_READY_SECONDS} s away")


def prove(stage: Stage, market: Market) -> int:
    """Act: the agent proves its speed. The score, in operations per second."""
    ui = stage.ui
    ui.act("3  The agent proves the throughput of its machine")
    rules = rules_of(market.benchmark, "latest")
    shape = rules.shape
    ui.note(
        f"exact products of {shape.n:,} x {shape.depth:,} and {shape.depth:,} x {shape.n:,} "
        f"integers, as many as the window of {show_seconds(rules.window)} allows;"
    )
    ui.note(f"then the contract itself computes {rules.samples} entries that a draw has named")
    seen = _Seen(rules, proofs.current(market, rules).number, {}, {})
    began = time.monotonic()
    with (
        AgentClient(stage.agent.url, stage.tenant, stage.chain.chain_id) as client,
        Live(_table(seen), console=stage.console, transient=True) as live,
    ):

        def look() -> int | None:
            _look(stage, market, client.provider(), seen, time.monotonic() - began)
            live.update(_table(seen))
            return seen.score or None

        stage.wait("the proof", look, 4 * rules.spacing, shown=True)
    stage.console.print(_table(seen))
    for name, event in _EVENTS.items():
        _gas_of_event(stage, market, f"{name} (agent)", market.benchmark, event)
    ui.step(f"{show_rate(seen.score)} proven on chain; nobody's word was needed")
    return seen.score


def reward(stage: Stage, market: Market) -> None:
    """Act: the epoch ends, and the agent has its reward paid into the pool."""
    ui, owner = stage.ui, stage.owner.address
    ui.act("5  The epoch ends: rewards by proven throughput")
    number = proofs.of_provider(market, owner)[0]
    # The agent may have claimed already: what it got stands in the events.
    left = market.benchmark.epoch_of(number, "latest").ends_at - market.now()
    if left > 0:
        stage.pass_time(left)
        ui.step(f"{show_seconds(left)} later epoch {number} is over")

    def look() -> rewards.Reward | None:
        found = next(item for item in rewards.of(market, owner) if item.epoch == number)
        return found if found.paid else None

    paid = stage.wait("the agent to claim", look, 30)
    _gas_of_event(stage, market, "claim (agent)", market.emissions, Claimed)
    stage.grid(
        f"Rewards of epoch {number}",
        ["", "amount"],
        [
            ["emission of the epoch", show_tpf(market.emissions.emission(number, "latest"))],
            ["score, backed by stake", show_rate(paid.effective)],
            [
                "target for a full emission",
                show_rate(market.emissions.target(number, "latest")),
            ],
            ["minted into the pool", show_tpf(paid.amount)],
            ["own stake now", show_tpf(market.staking.owner_assets(owner, "latest"))],
        ],
    )


def _look(stage: Stage, market: Market, offer: dict[str, Any], seen: _Seen, moment: float) -> None:
    """Read the chain, and from the agent how many rounds it has done."""
    rules, owner = seen.rules, stage.owner.address
    number = proofs.current(market, rules).number
    if number != seen.number:
        seen.number = number
        seen.at.clear()
    record = market.benchmark.epoch_of(seen.number, "latest")
    proof = market.benchmark.proof_of(owner, "latest")
    told = offer.get("proof") or {}
    ours = proof.rounds > 0 and proof.epoch == seen.number
    found: dict[str, str] = {}
    if record.opened_at:
        found["opened"] = f"epoch {seen.number}, beacon 0x{record.beacon.hex()[:8]}…"
    if told.get("epoch") == seen.number and told.get("rounds"):
        found["rounds"] = f"{told['rounds']:,} done"
    if ours:
        found["committed"] = f"{proof.rounds:,} rounds, 0x{proof.commitment.hex()[:8]}…"
    if record.target:
        found["closed"] = f"block {record.target:,} is named for the draw"
    if any(record.draw):
        found["drawn"] = f"0x{record.draw.hex()[:8]}…, for everybody"
    if ours and proof.verified:
        found["samples"] = f"{proof.verified} of {rules.samples} verified by the contract"
    if ours and proof.verified == rules.samples:
        seen.score = market.benchmark.score(owner, "latest")
        found["score"] = show_rate(seen.score)
    seen.texts = found
    for phase in found:
        seen.at.setdefault(phase, moment)


def _table(seen: _Seen) -> Table:
    table = Table(title="Proof", title_justify="left", title_style="bold")
    for name, side in (("phase", "left"), ("", "left"), ("after", "right")):
        table.add_column(name, justify="right" if side == "right" else "left")
    waiting = {"opened": "a boundary must win the lottery", "closed": "after the window"}
    for phase in _PHASES:
        text = seen.texts.get(phase)
        style = None if text else "dim"
        after = f"{seen.at[phase]:.1f} s" if phase in seen.at else ""
        table.add_row(phase, text or waiting.get(phase, "…"), after, style=style)
    return table


def _gas_of_event(
    stage: Stage, market: Market, name: str, contract: Contract, kind: type[Event]
) -> None:
    """Remember what the first transaction with this event has cost."""
    found = contract.find(kind, market.registry.start_block)
    receipt = stage.chain.pool.receipt(found[0].at.tx_hash) if found else None
    if receipt is None:
        raise CommandError(f"the demo finds no {kind.__name__} on chain; run it again")
    stage.spend(name, receipt)
