# SPDX-License-Identifier: Apache-2.0
"""What the constructors of Benchmark and Emissions demand of a plan, and what a public chain does.

The contracts would refuse most of it as well, but one transaction after the other: here a plan is
refused before the first is sent. Times are seconds, amounts TPF wei.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.market.amounts import show_seconds, show_tpf
from scripts.market.errors import ScriptError
from scripts.market.network import LOCAL_CHAIN_IDS

MAX_BLOCKS = 277
MAX_SAMPLES = 64
MAX_TIME = 366 * 86_400
MAX_BPS = 10_000
# On a public chain: time for a commit to be mined, and for the openings of every provider.
LEAST_WINDOW = 300
LEAST_OPENING_TIME = 600

_Values = Mapping[str, Any]


def check(where: str, chain_id: int, arguments: Mapping[str, _Values]) -> None:
    """ScriptError, one line that names the file and the argument, when a bound is broken."""
    staking, token = arguments["Staking"], arguments["Token"]
    benchmark, emissions = arguments["Benchmark"], arguments["Emissions"]
    found = [
        *(("Benchmark", *fault) for fault in _proof(benchmark)),
        *(("Benchmark", *fault) for fault in _times(benchmark, staking)),
        *(("Emissions", *fault) for fault in _schedule(emissions, token)),
    ]
    if chain_id not in LOCAL_CHAIN_IDS:
        found += [("Benchmark", *fault) for fault in _public(benchmark)]
    for contract, argument, fault in found:
        raise ScriptError(f"{where}: {contract}.{argument}: {fault}")


def _proof(given: _Values) -> Iterator[tuple[str, str]]:
    n = given["n"]
    if not 256 <= n <= 65_536 or n & (n - 1):
        yield "n", f"{n} is not a power of two from 256 to 65,536"
    if not 1 <= given["blocks"] <= MAX_BLOCKS:
        yield "blocks", f"{given['blocks']} is not from 1 to {MAX_BLOCKS}"
    if not 1 <= given["samples"] <= MAX_SAMPLES:
        yield "samples", f"{given['samples']} is not from 1 to {MAX_SAMPLES}"
    if not 0 < given["bond"] < 2**128:
        yield "bond", "must be above zero and below 2**128 wei"
    if given["randomness_source"] > 2:
        yield "randomness_source", "write 0 (prevrandao), 1 (previous hash) or 2 (Arbitrum)"


def _times(given: _Values, staking: _Values) -> Iterator[tuple[str, str]]:
    for name in ("epoch", "open_period", "window", "draw_delay", "draw_period", "fault_period"):
        if not 0 < given[name] <= MAX_TIME:
            yield name, f"must be above zero and at most {show_seconds(MAX_TIME)}"
    used, epoch = _before_openings(given), given["epoch"]
    if used >= epoch:
        yield (
            "epoch",
            f"{show_seconds(epoch)} are too short: opening, window, delay and draw take "
            f"{show_seconds(used)}",
        )
    reported = epoch + given["fault_period"]
    if reported > staking["unbonding"]:
        yield (
            "fault_period",
            f"a failure can be reported {show_seconds(reported)} after its epoch began, but stake "
            f"leaves after {show_seconds(staking['unbonding'])} (Staking.unbonding)",
        )
    if not reported <= given["bond_life"] <= staking["max_lock"]:
        yield (
            "bond_life",
            f"must be from {show_seconds(reported)} (epoch and fault_period) to "
            f"{show_seconds(staking['max_lock'])} (Staking.max_lock)",
        )
    if given["score_life"] >= 2**16:
        yield "score_life", "must be below 65,536 epochs"


def _public(given: _Values) -> Iterator[tuple[str, str]]:
    if given["window"] < LEAST_WINDOW:
        yield "window", f"must be at least {LEAST_WINDOW} s on a public chain"
    left = given["epoch"] - _before_openings(given)
    if left < LEAST_OPENING_TIME:
        yield (
            "epoch",
            f"leaves {show_seconds(left)} for openings; a public chain needs at least "
            f"{show_seconds(LEAST_OPENING_TIME)}",
        )


def _before_openings(given: _Values) -> int:
    """The part of an epoch that may have passed when the samples are drawn."""
    names = ("open_period", "window", "draw_delay", "draw_period")
    return int(sum(given[name] for name in names))


def _schedule(given: _Values, token: _Values) -> Iterator[tuple[str, str]]:
    halving = given["halving_epochs"]
    if not 0 < halving < 2**32:
        yield "halving_epochs", "must be above zero and below 2**32"
    if given["initial_emission"] >= 2**100:
        yield "initial_emission", "must be below 2**100 wei"
    # Twice the first period is more than all periods together.
    planned = 2 * given["initial_emission"] * halving
    free = token["cap"] - token["genesis_supply"]
    if planned > free:
        yield (
            "initial_emission",
            f"the schedule mints up to {show_tpf(planned)}, but the cap leaves {show_tpf(free)}",
        )
    if not MAX_BPS <= given["stake_cap_bps"] <= 100 * MAX_BPS:
        yield "stake_cap_bps", "must be from 100 % to 10,000 % (10,000 to 1,000,000)"
    if given["capacity_bps"] > MAX_BPS:
        yield "capacity_bps", "is above 100 %"
