# SPDX-License-Identifier: Apache-2.0
"""What the constructors demand of a plan, and a public chain.

The contracts would refuse most of it as well, but one transaction after the other: here a plan is
refused before the first is sent. Times are seconds, amounts TPF wei.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from teraproof.amounts import show_seconds, show_tpf
from teraproof.errors import WrongInput
from teraproof.market.chain import LOCAL_CHAIN_IDS

MAX_BLOCKS = 277
MAX_SAMPLES = 64
MAX_TIME = 366 * 86_400
MAX_HALVING = 100 * MAX_TIME
MAX_BPS = 10_000
MILLION = 1_000_000
OPS_PER_TPF = (10**3, 10**18)
MAX_TARGET = 10**22
SOURCES = (0, 1, 2)
# On a public chain: time and blocks for commits, and time for the openings of every provider.
LEAST_WINDOW = 300
LEAST_WINDOW_BLOCKS = 100
LEAST_OPENING_TIME = 600

MAX_VOTES = 31
MAX_PERIOD = 30 * 86_400
# Leases: the longest gap between heartbeats that is paid, and the longest time-outs.
MOST_GAP = 86_400
MOST_PATIENCE = 7 * 86_400
MAX_AUCTION = 30 * 86_400
GRACE = (10, 14 * 86_400)
# On a public chain a heartbeat that waits some blocks must not cost rent.
LEAST_GAP_BLOCKS = 10

_PANELS = ("panel", "redraw_panel", "appeal_panel")
_COURT_TIMES = (
    "draw_time",
    "commit_time",
    "reveal_time",
    "redraw_time",
    "appeal_time",
    "close_time",
    "max_duration",
)
_PERIODS = ("slot", "spacing", "open_period", "window", "draw_period", "reach", "opening_period")

_Values = Mapping[str, Any]
_Faults = Iterator[tuple[str, str]]


def check(
    where: str,
    chain_id: int,
    block_seconds: float,
    history_blocks: int,
    arguments: Mapping[str, _Values],
) -> None:
    """CommandError, one line that names the file and the argument, when a bound is broken.

    A chain has a block each `block_seconds`, and keeps the hashes of `history_blocks`.
    """
    staking, token = arguments["Staking"], arguments["Token"]
    benchmark, emissions = arguments["Benchmark"], arguments["Emissions"]
    disputes = arguments["Disputes"]
    faults = {
        "Benchmark": [
            *_proof(benchmark),
            *_periods(benchmark),
            *_windows(benchmark),
            *_blocks(benchmark, block_seconds, history_blocks),
            *_bond(benchmark, staking),
        ],
        "Emissions": [*_schedule(emissions, token), *_scale(emissions)],
        "Disputes": [
            *_panels(disputes),
            *_seats(disputes, staking),
            *_draws(disputes, benchmark, block_seconds, history_blocks),
            *_locks(disputes, staking, arguments["Jobs"]),
        ],
        "Leases": [*_times(arguments["Leases"]), *_collateral(arguments["Leases"], staking)],
        "Jobs": [*_one_score(arguments["Jobs"])],
    }
    if chain_id not in LOCAL_CHAIN_IDS:
        faults["Benchmark"] += _public(benchmark, block_seconds)
        faults["Emissions"] += _public_rewards(emissions, benchmark)
        faults["Disputes"] += _public_court(disputes, staking)
        faults["Leases"] += _public_leases(arguments["Leases"], block_seconds)
    for contract, found in faults.items():
        for argument, fault in found:
            raise WrongInput(f"{where}: {contract}.{argument}: {fault}")


def length(benchmark: _Values) -> int:
    """Seconds of an epoch: from the opening of its window until its numbers are final."""
    names = ("window", "draw_period", "reach", "opening_period")
    return int(sum(benchmark[name] for name in names))


def longest(disputes: _Values, duration: int) -> int:
    """Seconds that a dispute over a job that may run for `duration` can take, to its conclusion."""
    phases = ("draw_time", "commit_time", "reveal_time")
    rest = ("redraw_time", "appeal_time", "close_time")
    return int(
        3 * (sum(disputes[name] for name in phases) + duration)
        + sum(disputes[name] for name in rest)
    )


def _proof(given: _Values) -> _Faults:
    n = given["n"]
    if not 256 <= n <= 65_536 or n & (n - 1):
        yield "n", f"{n} is not a power of two from 256 to 65,536"
    if not 1 <= given["blocks"] <= MAX_BLOCKS:
        yield "blocks", f"{given['blocks']} is not from 1 to {MAX_BLOCKS}"
    if not 1 <= given["samples"] <= MAX_SAMPLES:
        yield "samples", f"{given['samples']} is not from 1 to {MAX_SAMPLES}"
    if not 0 < given["bond"] < 2**96:
        yield "bond", "must be above zero and below 2**96 wei"
    if given["randomness_source"] not in SOURCES:
        yield "randomness_source", "write 0 (prevrandao), 1 (block hash) or 2 (Arbitrum)"


def _periods(given: _Values) -> _Faults:
    for name in (*_PERIODS, "fault_period", "score_life"):
        if not 0 < given[name] <= MAX_TIME:
            yield name, f"must be above zero and at most {show_seconds(MAX_TIME)}"


def _windows(given: _Values) -> _Faults:
    slot, opening, window = given["slot"], given["open_period"], given["window"]
    if not 1 <= given["chance_ppm"] <= MILLION:
        yield "chance_ppm", f"must be from 1 to {MILLION:,}, of a million boundaries"
    if opening >= slot:
        yield "open_period", f"must be shorter than a slot ({show_seconds(slot)})"
    if opening > window // 2:
        yield "open_period", f"must be at most half of the window ({show_seconds(window)})"
    if given["spacing"] < length(given):
        yield (
            "spacing",
            f"{show_seconds(given['spacing'])} are too short: window, draw_period, reach and "
            f"opening_period take {show_seconds(length(given))}",
        )


def _blocks(given: _Values, block_seconds: float, hashes: int) -> _Faults:
    delay = given["draw_delay"]
    if not 2 <= delay <= 2**32:
        yield "draw_delay", "must be at least 2 blocks and at most 2**32"
    elif given["reach"] <= delay * block_seconds:
        yield (
            "reach",
            f"{show_seconds(given['reach'])} are over before the block of the draw has come, "
            f"{delay:,} blocks of {block_seconds:g} s ahead",
        )
    for name in ("open_period", "reach"):
        if given[name] > hashes * block_seconds:
            yield (
                name,
                f"{show_seconds(given[name])} are longer than hashes can be read: {hashes:,} "
                f"blocks of {block_seconds:g} s",
            )


def _bond(given: _Values, staking: _Values) -> _Faults:
    reported = length(given) + given["fault_period"]
    if reported > staking["unbonding"]:
        yield (
            "fault_period",
            f"a failure can be reported {show_seconds(reported)} after its window opened, but "
            f"stake leaves after {show_seconds(staking['unbonding'])} (Staking.unbonding)",
        )
    if not reported <= given["bond_life"] <= staking["max_lock"]:
        yield (
            "bond_life",
            f"must be from {show_seconds(reported)} (an epoch and fault_period) to "
            f"{show_seconds(staking['max_lock'])} (Staking.max_lock)",
        )


def _public(given: _Values, block_seconds: float) -> _Faults:
    least = max(LEAST_WINDOW, int(LEAST_WINDOW_BLOCKS * block_seconds))
    if given["window"] < least:
        yield (
            "window",
            f"must be at least {show_seconds(least)} on a public chain of {block_seconds:g} s "
            "blocks",
        )
    if given["open_period"] > given["window"] // 10:
        yield (
            "open_period",
            "must be at most a tenth of the window on a public chain: the window runs from its "
            "block, presented or not",
        )
    if given["opening_period"] < LEAST_OPENING_TIME:
        yield (
            "opening_period",
            f"must be at least {show_seconds(LEAST_OPENING_TIME)} on a public chain",
        )


def _schedule(given: _Values, token: _Values) -> _Faults:
    halving = given["halving"]
    if not 0 < halving <= MAX_HALVING:
        yield "halving", f"must be above zero and at most {show_seconds(MAX_HALVING)}"
    # All periods together come to twice the first.
    planned = 2 * given["rate"] * halving
    free = token["cap"] - token["genesis_supply"]
    if planned > free:
        yield (
            "rate",
            f"the schedule mints up to {show_tpf(planned)}, but the cap leaves {show_tpf(free)}",
        )
    if not 0 < given["max_accrual"] <= MAX_TIME:
        yield "max_accrual", f"must be above zero and at most {show_seconds(MAX_TIME)}"
    if given["capacity_bps"] > MAX_BPS:
        yield "capacity_bps", "is above 100 %"


def _scale(given: _Values) -> _Faults:
    least, most = OPS_PER_TPF
    if not least <= given["ops_per_tpf"] <= most:
        yield "ops_per_tpf", f"must be from {least:.0e} to {most:.0e} operations per second"
    if not 0 < given["target"] <= MAX_TARGET:
        yield "target", f"must be above zero and at most {MAX_TARGET:.0e} operations per second"


def _public_rewards(given: _Values, benchmark: _Values) -> _Faults:
    if given["max_accrual"] > benchmark["spacing"]:
        yield (
            "max_accrual",
            "must be at most Benchmark.spacing on a public chain: else a window pays the more the "
            "longer none has come, and staying away after each one pays",
        )


def _panels(given: _Values) -> _Faults:
    first, second, third = (given[name] for name in _PANELS)
    for name in _PANELS:
        if given[name] % 2 == 0:
            yield name, f"{given[name]} is even: a jury needs an odd number of votes"
    if not 3 <= first < second < third <= MAX_VOTES:
        yield (
            "panel",
            f"{first}, {second} and {third} votes do not rise, from 3 to {MAX_VOTES} at most",
        )
    # What an appeal pays beyond what the dispute does.
    more = third - second - first // 2
    if more <= 0 or more * given["juror_fee_bps"] < MAX_BPS:
        yield (
            "appeal_panel",
            "is too small: the bond of an appeal must be above that of the dispute",
        )
    if given["panel_min"] < third:
        yield "panel_min", f"must be at least {third} seats, as many as an appeal has votes"
    if given["juror_fee_bps"] > MAX_BPS:
        yield "juror_fee_bps", "is above 100 %"
    if given["attendance"] > given["min_fee"]:
        yield "attendance", "must be at most min_fee"
    if given["price_per_seat"] == 0:
        yield "price_per_seat", "must be above zero"


def _seats(given: _Values, staking: _Values) -> _Faults:
    if not 10**18 <= given["seat"] < 2**96:
        yield "seat", "must be at least 1 TPF and below 2**96 wei"
    if not 0 < given["small_fine"] <= given["big_fine"]:
        yield "big_fine", "must be at least small_fine, which must be above zero"
    dearest = given["seat"] // (2 * max(given["big_fine"], 1))
    if dearest < given["min_fee"]:
        yield "seat", "must be at least 2 * big_fine * min_fee: two whole fines for silence"
    if not 0 < given["period"] <= MAX_PERIOD:
        yield "period", f"must be above zero and at most {show_seconds(MAX_PERIOD)}"
    for name in _COURT_TIMES:
        if not 0 < given[name] <= MAX_TIME:
            yield name, f"must be above zero and at most {show_seconds(MAX_TIME)}"
    if given["term"] > staking["max_lock"]:
        yield (
            "term",
            f"must be at most {show_seconds(staking['max_lock'])} (Staking.max_lock)",
        )
    least = longest(given, given["max_duration"]) + 4 * given["period"]
    if given["term"] < least:
        yield "term", f"must be at least {show_seconds(least)}, the longest dispute and 4 periods"


def _draws(given: _Values, benchmark: _Values, block_seconds: float, hashes: int) -> _Faults:
    source, delay = given["randomness_source"], given["draw_delay"]
    if source != benchmark["randomness_source"]:
        yield "randomness_source", "must be that of Benchmark: the chain has one that is good"
    if not 2 <= delay <= 2**32:
        yield "draw_delay", "must be at least 2 blocks and at most 2**32"
    elif given["draw_time"] <= delay * block_seconds:
        yield (
            "draw_time",
            f"{show_seconds(given['draw_time'])} are over before the block of the draw has come, "
            f"{delay:,} blocks of {block_seconds:g} s ahead",
        )
    # The first block that counts is the delay after the request.
    if given["draw_time"] > (hashes + delay) * block_seconds:
        yield (
            "draw_time",
            f"{show_seconds(given['draw_time'])} are longer than hashes can be read: {hashes:,} "
            f"blocks of {block_seconds:g} s",
        )
    if given["draw_time"] > given["period"]:
        yield "draw_time", "must be at most a period: seats are kept until the next one ends"


def _locks(given: _Values, staking: _Values, jobs: _Values) -> _Faults:
    """A provider cannot leave before a dispute has ended: its collateral is locked as long."""
    dispute = longest(given, given["max_duration"])
    locked = given["max_duration"] + jobs["challenge_window"] + dispute + jobs["lock_margin"]
    if locked > staking["max_lock"]:
        yield (
            "max_duration",
            f"a judged job may need a lock of {show_seconds(locked)}, above "
            f"{show_seconds(staking['max_lock'])} (Staking.max_lock)",
        )


def _public_court(given: _Values, staking: _Values) -> _Faults:
    dispute = longest(given, given["max_duration"])
    if dispute > staking["unbonding"]:
        yield (
            "max_duration",
            f"a dispute may take {show_seconds(dispute)}, but stake leaves after "
            f"{show_seconds(staking['unbonding'])} (Staking.unbonding)",
        )


def _times(given: _Values) -> _Faults:
    gap, abandon, suspension = (given[name] for name in ("max_gap", "abandon", "max_suspension"))
    least, most = GRACE
    if not 0 < given["open_margin"] <= MAX_AUCTION:
        yield "open_margin", f"must be above zero and at most {show_seconds(MAX_AUCTION)}"
    if not 0 < gap <= MOST_GAP:
        yield "max_gap", f"must be above zero and at most {show_seconds(MOST_GAP)}"
    if not gap <= abandon <= MOST_PATIENCE:
        yield (
            "abandon",
            f"must be from {show_seconds(gap)} (max_gap) to {show_seconds(MOST_PATIENCE)}",
        )
    if not 0 < suspension <= MOST_PATIENCE:
        yield "max_suspension", f"must be above zero and at most {show_seconds(MOST_PATIENCE)}"
    if not least <= given["challenge_window"] <= most:
        yield (
            "challenge_window",
            f"must be from {show_seconds(least)} to {show_seconds(most)}: it is the grace",
        )


def _collateral(given: _Values, staking: _Values) -> _Faults:
    margin, longest_grace = given["lock_margin"], GRACE[1]
    if not 0 < margin < staking["max_lock"] - longest_grace:
        yield (
            "lock_margin",
            f"must be above zero, and {show_seconds(longest_grace)} below "
            f"{show_seconds(staking['max_lock'])} (Staking.max_lock)",
        )
    if given["victim_bps"] > MAX_BPS:
        yield "victim_bps", "is above 100 %"
    if given["bounty_bps"] > MAX_BPS // 2:
        yield "bounty_bps", "is above 50 %"


def _one_score(given: _Values) -> _Faults:
    """What a lease reserves of a score no job may get: Jobs asks Leases, which knows both."""
    if given["scores"] != "$Leases":
        yield "scores", "write $Leases: it tells what leases leave of a score"


def _public_leases(given: _Values, block_seconds: float) -> _Faults:
    least = int(LEAST_GAP_BLOCKS * block_seconds)
    if given["max_gap"] < least:
        yield (
            "max_gap",
            f"must be at least {show_seconds(least)} on a public chain of {block_seconds:g} s "
            "blocks",
        )
    if given["max_gap"] > given["abandon"] // 2:
        yield "abandon", "must be at least twice max_gap on a public chain"
