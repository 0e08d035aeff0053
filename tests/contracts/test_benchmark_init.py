# SPDX-License-Identifier: Apache-2.0
"""Benchmark's constructor: every parameter at its bounds, and one beyond. `setup_rewards`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest

from tests.contracts import headers, proofs
from tests.contracts.actions import now
from tests.contracts.deploy import (
    DAY,
    ZERO_ADDRESS,
    Parameters,
    Suite,
    deploy_benchmark,
    deploy_suite,
    deployer_of,
)

USUAL = Parameters()
YEAR = 366 * DAY
NO_POWER = "benchmark: n is not a power of two from 256 to 65,536"
ZERO_TIME = "benchmark: zero time"
OUTLAST = "benchmark: faults outlast the unbonding"
BOND_LIFE = "benchmark: bond life out of bounds"
SCORE_LIFE = "benchmark: score life out of bounds"
OUT_OF_BOUNDS = "benchmark: time out of bounds"
CHANCE = "benchmark: chance out of bounds"
OPEN_PERIOD = "benchmark: open period out of bounds"
TOO_SHORT = "benchmark: draw delay too short"
TOO_CLOSE = "benchmark: windows too close"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(USUAL)


def test_init__keeps_what_it_is_given(suite: Suite) -> None:
    p = replace(USUAL, genesis=now() + 5, randomness=1, chance_ppm=12_345)
    found = deploy_benchmark(suite.staking, p)
    assert found.STAKING() == suite.staking.address
    assert (found.N(), found.BLOCKS(), found.SAMPLES()) == (p.n, p.blocks, p.samples)
    assert (found.BOND(), found.GENESIS()) == (p.bond, p.genesis)
    assert (found.SLOT(), found.CHANCE_PPM(), found.SPACING()) == (600, 12_345, 7_200)
    assert (found.OPEN_PERIOD(), found.WINDOW()) == (p.open_period, p.window)
    assert (found.DRAW_PERIOD(), found.DRAW_DELAY()) == (p.draw_period, p.draw_delay)
    assert (found.REACH(), found.OPENING_PERIOD()) == (p.reach, p.opening_period)
    assert found.LENGTH() == p.window + p.draw_period + p.reach + p.opening_period == p.length
    assert (found.FAULT_PERIOD(), found.BOND_LIFE()) == (p.fault_period, p.bond_life)
    assert (found.SCORE_LIFE(), found.SOURCE()) == (p.score_life, 1)
    assert found.BOND_ID() == bytes(32)
    assert found.rewards() == ZERO_ADDRESS
    assert (found.current_epoch(), found.next_window_from()) == (0, p.genesis)


def test_init__genesis_zero_is_now(suite: Suite) -> None:
    assert deploy_benchmark(suite.staking, USUAL).GENESIS() == now()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 0}, NO_POWER),
        ({"n": 1}, NO_POWER),
        ({"n": 128}, NO_POWER),
        ({"n": 257}, NO_POWER),
        ({"n": 384}, NO_POWER),
        ({"n": 131_072}, NO_POWER),
        ({"n": 2**256 - 1}, NO_POWER),
        ({"blocks": 0}, "benchmark: blocks out of bounds"),
        ({"blocks": 278}, "benchmark: blocks out of bounds"),
        ({"samples": 0}, "benchmark: samples out of bounds"),
        ({"samples": 65}, "benchmark: samples out of bounds"),
        ({"bond": 0}, "benchmark: bond out of bounds"),
        ({"bond": 2**128}, "benchmark: bond out of bounds"),
        ({"chance_ppm": 0}, CHANCE),
        ({"chance_ppm": 1_000_001}, CHANCE),
        ({"slot": 0}, OPEN_PERIOD),
        ({"slot": 120}, OPEN_PERIOD),
        ({"open_period": 0}, OPEN_PERIOD),
        ({"open_period": 151}, OPEN_PERIOD),
        ({"open_period": 2**256 - 1}, OPEN_PERIOD),
        ({"window": 239}, OPEN_PERIOD),
        ({"slot": YEAR + 1}, OUT_OF_BOUNDS),
        ({"spacing": YEAR + 1}, OUT_OF_BOUNDS),
        ({"window": YEAR + 1}, OUT_OF_BOUNDS),
        ({"draw_period": YEAR + 1}, OUT_OF_BOUNDS),
        ({"reach": YEAR + 1}, OUT_OF_BOUNDS),
        ({"opening_period": YEAR + 1}, OUT_OF_BOUNDS),
        ({"draw_delay": 2**32 + 1}, OUT_OF_BOUNDS),
        ({"genesis": 2**40 - YEAR}, OUT_OF_BOUNDS),
        ({"window": 0}, ZERO_TIME),
        ({"draw_period": 0}, ZERO_TIME),
        ({"reach": 0}, ZERO_TIME),
        ({"opening_period": 0}, ZERO_TIME),
        ({"fault_period": 0}, ZERO_TIME),
        ({"draw_delay": 0}, TOO_SHORT),
        ({"draw_delay": 1}, TOO_SHORT),
        ({"spacing": USUAL.length - 1}, TOO_CLOSE),
        ({"opening_period": 7_200 - 1_020 + 1}, TOO_CLOSE),
        ({"fault_period": 21 * DAY - USUAL.length + 1, "bond_life": 60 * DAY}, OUTLAST),
        ({"fault_period": 21 * DAY}, OUTLAST),
        ({"fault_period": 2**256 - 1}, OUTLAST),
        ({"bond_life": USUAL.length + USUAL.fault_period - 1}, BOND_LIFE),
        ({"bond_life": 60 * DAY + 1}, BOND_LIFE),
        ({"bond_life": 0}, BOND_LIFE),
        ({"score_life": 0}, SCORE_LIFE),
        ({"score_life": YEAR + 1}, SCORE_LIFE),
        ({"randomness": 3}, "randomness: unknown source"),
        ({"randomness": 2**256 - 1}, "randomness: unknown source"),
    ],
    ids=str,
)
def test_init__out_of_bounds__reverts(suite: Suite, changes: Any, reason: Any) -> None:
    with boa.reverts(reason):
        deploy_benchmark(suite.staking, replace(USUAL, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 256},
        {"n": 65_536},
        {"blocks": 277},
        {"samples": 1},
        {"samples": 64},
        {"bond": 1},
        {"bond": 2**128 - 1},
        {"chance_ppm": 1},
        {"chance_ppm": 1_000_000},
        {"slot": 121},
        {"slot": YEAR},
        {"open_period": 1},
        {"open_period": 150},
        {"open_period": 1, "window": 2, "draw_period": 1, "reach": 1, "opening_period": 1},
        {"window": 240},
        {"draw_delay": 2},
        {"draw_delay": 2**32},
        {"spacing": USUAL.length},
        {"spacing": YEAR},
        {"opening_period": 7_200 - 1_020},
        {"genesis": 2**40 - YEAR - 1},
        {"fault_period": 21 * DAY - USUAL.length, "bond_life": 21 * DAY},
        {"fault_period": 1},
        {"bond_life": USUAL.length + USUAL.fault_period},
        {"bond_life": 60 * DAY},
        {"score_life": 1},
        {"score_life": YEAR},
    ],
    ids=str,
)
def test_init__at_the_bounds(suite: Suite, changes: Any) -> None:
    deploy_benchmark(suite.staking, replace(USUAL, **changes))


def test_init__genesis(suite: Suite) -> None:
    with boa.reverts("benchmark: genesis is past"):
        deploy_benchmark(suite.staking, replace(USUAL, genesis=now() - 1))
    assert deploy_benchmark(suite.staking, replace(USUAL, genesis=now())).GENESIS() == now()


def test_init__staking(suite: Suite) -> None:
    # All parameters from n to the source of randomness, in the constructor's order.
    fields = list(Parameters.__dataclass_fields__)
    names = fields[fields.index("n") : fields.index("randomness") + 1]
    arguments = [getattr(USUAL, name) for name in names]
    deploy = deployer_of("Benchmark").deploy
    deploy(suite.staking.address, *arguments)
    with boa.reverts("benchmark: zero staking"):
        deploy(ZERO_ADDRESS, *arguments)
    with boa.reverts():  # an account without code
        deploy(suite.owner, *arguments)


def test_init__longest_epoch() -> None:
    """A year in total, when unbonding and locks last as long as Staking allows."""
    half = YEAR // 2
    p = replace(
        USUAL, unbonding=YEAR, max_lock=YEAR, spacing=YEAR, bond_life=YEAR, fault_period=DAY
    )
    p = replace(p, window=half, opening_period=YEAR - DAY - half - p.draw_period - p.reach)
    assert p.length == YEAR - DAY
    suite = deploy_suite(p)
    deploy_benchmark(suite.staking, p)
    with boa.reverts(OUTLAST):
        deploy_benchmark(suite.staking, replace(p, fault_period=DAY + 1))


# --------------------------------------------------------------- setup_rewards


def test_setup_rewards__by_the_deployer_once(suite: Suite, stranger: str, owner: str) -> None:
    maker, other = suite.deployer, suite.guardian
    with boa.env.prank(maker):
        benchmark = deploy_benchmark(suite.staking, USUAL)
    for caller in (stranger, owner):
        with boa.reverts("benchmark: not the deployer"):
            benchmark.setup_rewards(stranger, sender=caller)
    benchmark.setup_rewards(other, sender=maker)
    assert benchmark.rewards() == other
    with boa.reverts("benchmark: not the deployer"):
        benchmark.setup_rewards(stranger, sender=maker)


def test_setup_rewards__no_window_opens_before(suite: Suite) -> None:
    with boa.env.prank(suite.deployer):
        benchmark = deploy_benchmark(suite.staking, USUAL)
    block = headers.mine(proofs.word_of(proofs.BEACON))
    arguments = (block.number, block.header, block.parent)
    with boa.reverts("benchmark: no rewards yet"):
        benchmark.open(*arguments)
    benchmark.setup_rewards(suite.owner, sender=suite.deployer)
    benchmark.open(*arguments)
