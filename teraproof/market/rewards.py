# SPDX-License-Identifier: Apache-2.0
"""Rewards for proven throughput: what an epoch pays, what waits, and how it gets into the pools.

Amounts are TPF wei, weights 1/10,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_rate, show_seconds, show_time, show_tpf
from teraproof.contracts import emissions as events
from teraproof.contracts.staking import Rewarded
from teraproof.errors import CommandError, WrongInput, counted
from teraproof.market import proofs, timelock
from teraproof.market.market import Market, transact
from teraproof.market.providers import require_registered
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.rpc.types import Receipt

_SHOWN = 20
_ALL = 10_000


@dataclass(frozen=True)
class Reward:
    """A provider's reward of one epoch in which it has a score."""

    epoch: int
    score: int
    effective: int
    """The part of the score that stake backed."""
    amount: int
    paid: bool
    ended: bool


@dataclass(frozen=True)
class Claimed:
    """A reward that was paid."""

    epoch: int
    to_pool: int
    to_payout: int
    """The commission, and what the pool's virtual shares would take."""
    receipt: Receipt

    @property
    def amount(self) -> int:
        """All of it."""
        return self.to_pool + self.to_payout


def of(market: Market, provider: str) -> list[Reward]:
    """All rewards of a provider, the oldest first. Only the newest one can be unpaid."""
    require_registered(market, provider)
    start = market.registry.start_block
    claims = market.emissions.find(events.Claimed, start, provider=provider)
    paid = {event.epoch: event.amount for event in claims}
    return [
        Reward(
            epoch=epoch,
            score=scored.score,
            effective=scored.effective,
            amount=paid[epoch] if epoch in paid else _due(market, provider, epoch),
            paid=epoch in paid,
            # A paid epoch is over: the chain is asked for what is not paid alone.
            ended=epoch in paid or _ended(market, epoch),
        )
        for epoch, scored in proofs.scored(market, provider).items()
    ]


def waiting(rewards: Sequence[Reward]) -> Reward | None:
    """The one that a claim would pay."""
    ready = [r for r in rewards if r.ended and not r.paid]
    return ready[-1] if ready else None


def show(market: Market, ui: Ui, provider: str) -> list[dict[str, Any]]:
    """A provider's rewards, the newest last, and what waits. Returns all of them as JSON values:
    throughput in operations per second, amounts in TPF wei, as text.
    """
    found = of(market, provider)
    if not found:
        ui.note(f"{provider} has no score yet, so there is no reward")
        return []
    if len(found) > _SHOWN:
        ui.note(f"the newest {_SHOWN} of {len(found)} epochs")
    rows = [
        (
            str(reward.epoch),
            show_rate(reward.score),
            show_rate(reward.effective),
            show_tpf(reward.amount),
            _state(reward),
        )
        for reward in found[-_SHOWN:]
    ]
    columns = ("epoch", "throughput", "backed by stake", "reward", "state")
    ui.table(f"Rewards of {provider}", columns, rows)
    ready = waiting(found)
    if ready is not None and ready.amount:
        ui.note(f"{show_tpf(ready.amount)} wait; pay them into the pool with: rewards claim")
    return [
        {
            "epoch": reward.epoch,
            "throughput": str(reward.score),
            "backed": str(reward.effective),
            "amount": str(reward.amount),
            "state": _state(reward),
        }
        for reward in found
    ]


def _state(reward: Reward) -> str:
    if reward.paid:
        return "paid into the pool"
    if not reward.ended:
        return "the epoch is not over"
    return "waits" if reward.amount else "nothing to pay"


def claim(market: Market, sender: Sender, ui: Ui, provider: str) -> Claimed:
    """Mint what waits for a provider into its pool; anyone may. CommandError when nothing waits."""
    ready = waiting(of(market, provider))
    if ready is None:
        raise CommandError(
            f"no reward waits for {provider}: an epoch pays once, after its end, a provider that "
            "has a score in it"
        )
    ui.ask(f"Pay {show_tpf(ready.amount)} of epoch {ready.epoch} into the pool of {provider}?")
    label = f"claim epoch {ready.epoch}"
    receipt = transact(sender, ui, label, market.emissions, market.emissions.claim(provider))
    to_pool = to_payout = 0
    for log in receipt.logs:
        event = market.staking.decode(log)
        if isinstance(event, Rewarded):
            to_pool += event.to_pool
            to_payout += event.to_payout
    ui.step(f"{show_tpf(to_pool)} to the pool, {show_tpf(to_payout)} to the payout address")
    return Claimed(ready.epoch, to_pool, to_payout, receipt)


def _due(market: Market, provider: str, epoch: int) -> int:
    return market.emissions.reward_of(provider, epoch, "latest")


def _ended(market: Market, epoch: int) -> bool:
    record = market.benchmark.epoch_of(epoch, "latest")
    return market.now() >= record.ends_at


def show_emission(market: Market, ui: Ui) -> dict[str, Any]:
    """The schedule and the scale, and what each use gets, now and in epochs that are to come. The
    same as JSON values: amounts in TPF wei as text, weights 1/10,000.
    """
    emissions, benchmark = market.emissions, market.benchmark
    epoch, now = benchmark.current_epoch("latest"), market.now()
    halving, start = emissions.halving("latest"), emissions.start("latest")
    next_halving = start + ((now - start) // halving + 1) * halving if now >= start else start
    opened = emissions.emission(epoch, "latest") if epoch else 0
    scale = emissions.ops_per_tpf(epoch + 1, "latest")
    ui.table(
        "Emission",
        ("what", "value"),
        [
            ("newest epoch", str(epoch) if epoch else "none yet"),
            ("emission of this epoch", show_tpf(opened)),
            ("next halving", show_time(next_halving, now)),
            ("schedule to date", show_tpf(emissions.accrued(now, "latest"))),
            ("minted", show_tpf(emissions.minted("latest"))),
            ("most that one epoch gets", show_seconds(emissions.max_accrual("latest"))),
            ("throughput that a TPF of stake backs", show_rate(scale)),
            (
                "target",
                f"{show_rate(emissions.target(epoch + 1, 'latest'))} for a full emission",
            ),
        ],
    )
    # The next epoch may have begun already, with its window not presented yet.
    present, later = (emissions.weights_at(n, "latest") for n in (epoch, epoch + 2))
    rows = [
        (
            str(number),
            "capacity" if number == 0 else emissions.distributor_of(number, "latest"),
            f"{present[number] / 100:g} %",
            f"{later[number] / 100:g} %",
            show_tpf(emissions.part_of(number, epoch, "latest") if epoch else 0),
        )
        for number in range(len(later))
    ]
    columns = ("use", "shared out by", "now", f"from epoch {epoch + 2}", "of this epoch")
    ui.table("Weights", columns, rows)
    return {
        "epoch": epoch,
        "emission": str(opened),
        "scale": str(scale),
        "next_halving": next_halving,
        "weights_bps": list(present),
        "later_weights_bps": list(later),
    }


def set_weights(market: Market, sender: Sender, ui: Ui, weights: Sequence[int]) -> Receipt:
    """Have the timelock set the weights (1/10,000, capacity first): proposed, later carried out.

    CommandError when they fit no uses, and whatever `timelock.carry_on` raises.
    """
    emissions = market.emissions
    uses = emissions.use_count("latest")
    if len(weights) > uses:
        raise WrongInput(f"{len(weights)} weights for {counted(uses, 'use')}; leave some out")
    if sum(weights) > _ALL:
        raise WrongInput(f"the weights sum up to {sum(weights) / 100:g} %; 100 % are the most")
    shown = " and ".join(f"{weight / 100:g} %" for weight in weights)
    # Weights may come back to what they were: the changes so far tell the proposals apart.
    changes = emissions.find(events.WeightsChanged, market.registry.start_block)
    data = emissions.set_weights(weights)
    return timelock.carry_on(
        market,
        sender,
        ui,
        f"set the weights to {shown} for epochs that have not begun",
        emissions,
        data,
        len(changes).to_bytes(32, "big"),
    )
