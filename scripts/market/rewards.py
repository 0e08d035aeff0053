# SPDX-License-Identifier: Apache-2.0
"""Rewards for proven speed: what an epoch pays, what waits, and how it gets into the pools.

Amounts are TPF wei, weights and shares 1/10,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provider_agent.chain.rpc import Receipt
from provider_agent.errors import counted
from scripts.market import proofs, timelock
from scripts.market.amounts import show_rate, show_tpf
from scripts.market.errors import ScriptError
from scripts.market.market import Market, transact
from scripts.market.providers import require_registered
from scripts.market.sending import Sender
from scripts.market.ui import Ui

# Epochs that Emissions takes in one claim.
MAX_EPOCHS = 64
_SHOWN = 20
_ALL = 10_000


@dataclass(frozen=True)
class Reward:
    """A provider's part of one epoch."""

    epoch: int
    score: int
    scores: int
    """Of all providers together."""
    amount: int
    claimed: bool
    ended: bool


@dataclass(frozen=True)
class Claimed:
    """Rewards that were paid into a pool."""

    amount: int
    to_pool: int
    commission: int
    epochs: tuple[int, ...]
    receipts: tuple[Receipt, ...]


def of(market: Market, provider: str) -> list[Reward]:
    """All rewards of a provider, the oldest first."""
    require_registered(market, provider)
    epochs = proofs.of_provider(market, provider)
    current = int(market.benchmark.read("current_epoch")) if epochs else 0
    return [_read(market, provider, epoch, current) for epoch in epochs]


def _read(market: Market, provider: str, epoch: int, current: int) -> Reward:
    score, _, scores, _ = market.benchmark.read("share_of", provider, epoch)
    return Reward(
        epoch=epoch,
        score=int(score),
        scores=int(scores),
        amount=int(market.emissions.read("reward_of", provider, epoch)),
        claimed=bool(market.emissions.read("claimed", provider, epoch)),
        ended=epoch < current,
    )


def waiting(rewards: Sequence[Reward]) -> list[Reward]:
    """Those that a claim would pay."""
    return [r for r in rewards if r.ended and not r.claimed and r.amount > 0]


def show(market: Market, ui: Ui, provider: str) -> None:
    """A provider's rewards, the newest last, and what waits."""
    found = of(market, provider)
    if not found:
        ui.note(f"{provider} has proven no speed yet, so there is no reward")
        return
    if len(found) > _SHOWN:
        ui.note(f"the newest {_SHOWN} of {len(found)} epochs")
    rows = [
        (
            str(reward.epoch),
            show_rate(reward.score),
            f"{100 * reward.score / reward.scores:.3g} %" if reward.scores else "",
            show_tpf(reward.amount),
            _state(reward),
        )
        for reward in found[-_SHOWN:]
    ]
    ui.table(f"Rewards of {provider}", ("epoch", "speed", "part", "reward", "state"), rows)
    total = sum(reward.amount for reward in waiting(found))
    if total:
        ui.note(f"{show_tpf(total)} wait; pay them into the pool with: ape run rewards claim")


def _state(reward: Reward) -> str:
    if reward.claimed:
        return "paid into the pool"
    if not reward.ended:
        return "the epoch goes on"
    return "waits" if reward.amount else "nothing to pay"


def claim(market: Market, sender: Sender, ui: Ui, provider: str) -> Claimed:
    """Mint what waits for a provider into its pool; anyone may. ScriptError when nothing waits."""
    ready = waiting(of(market, provider))
    if not ready:
        raise ScriptError(
            f"no reward waits for {provider}: an epoch pays after its end, once, and only who "
            "has proven its speed in it"
        )
    total = sum(reward.amount for reward in ready)
    epochs = [reward.epoch for reward in ready]
    named = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    ui.ask(
        f"Pay {show_tpf(total)} of {counted(len(epochs), 'epoch')} ({named}) into the pool of "
        f"{provider}?"
    )
    to_pool = commission = 0
    receipts = []
    for start in range(0, len(epochs), MAX_EPOCHS):
        part = epochs[start : start + MAX_EPOCHS]
        label = f"claim {counted(len(part), 'epoch')}"
        receipt = transact(sender, ui, label, market.emissions, "claim", provider, part)
        receipts.append(receipt)
        for log in receipt.logs:
            decoded = market.staking.abi.decode_log(log)
            if decoded is not None and decoded[0] == "Rewarded":
                to_pool += int(decoded[1]["to_pool"])
                commission += int(decoded[1]["commission"])
    ui.step(f"{show_tpf(to_pool)} to the pool, {show_tpf(commission)} commission")
    return Claimed(to_pool + commission, to_pool, commission, tuple(epochs), tuple(receipts))


def show_weights(market: Market, ui: Ui) -> None:
    """The schedule, and what each use gets of it, now and from the next epoch on."""
    emissions = market.emissions
    rules = market.benchmark_events.rules("latest")
    epoch = proofs.current(market, rules).number
    now, later = emissions.read("weights_at", epoch), emissions.read("weights_at", epoch + 1)
    halving = int(emissions.read("HALVING_EPOCHS"))
    cap = int(emissions.read("STAKE_CAP_BPS"))
    ui.table(
        "Emission",
        ("what", "value"),
        [
            ("epoch", str(epoch)),
            ("emission of this epoch", show_tpf(int(emissions.read("emission", epoch)))),
            ("next halving", f"epoch {(epoch // halving + 1) * halving}"),
            ("schedule to date", show_tpf(int(emissions.read("scheduled", epoch)))),
            ("minted", show_tpf(int(emissions.read("minted")))),
            ("most for a provider", f"{cap / 10_000:g} times its part of the stake"),
        ],
    )
    rows = [
        (
            str(number),
            "capacity" if number == 0 else str(emissions.read("distributor_of", number)),
            f"{now[number] / 100:g} %",
            f"{later[number] / 100:g} %",
            show_tpf(int(emissions.read("part_of", number, epoch))),
        )
        for number in range(len(now))
    ]
    columns = ("use", "shared out by", "now", "next epoch", "of this epoch")
    ui.table("Weights", columns, rows)


def set_weights(market: Market, sender: Sender, ui: Ui, weights: Sequence[int]) -> Receipt:
    """Have the timelock set the weights (1/10,000, capacity first): proposed, later carried out.

    ScriptError when they fit no uses, and whatever `timelock.carry_on` raises.
    """
    emissions = market.emissions
    uses = int(emissions.read("use_count"))
    if len(weights) > uses:
        raise ScriptError(f"{len(weights)} weights for {counted(uses, 'use')}; leave some out")
    if sum(weights) > _ALL:
        raise ScriptError(f"the weights sum up to {sum(weights) / 100:g} %; 100 % are the most")
    shown = " and ".join(f"{weight / 100:g} %" for weight in weights)
    # Weights may come back to what they were: the changes so far tell the proposals apart.
    changes = emissions.logs(("WeightsChanged",), market.registry.start_block)
    data = emissions.encode("set_weights", list(weights))
    return timelock.carry_on(
        market,
        sender,
        ui,
        f"set the weights to {shown} from the next epoch on",
        emissions,
        data,
        len(changes).to_bytes(32, "big"),
    )
