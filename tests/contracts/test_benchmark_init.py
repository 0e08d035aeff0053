# SPDX-License-Identifier: Apache-2.0
"""Benchmark's constructor: every parameter at its bounds, and one beyond."""

from dataclasses import replace

import boa
import pytest

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
TOO_SHORT = "benchmark: epoch too short"
OUTLAST = "benchmark: faults outlast the unbonding"
BOND_LIFE = "benchmark: bond life out of bounds"
OUT_OF_BOUNDS = "benchmark: time out of bounds"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(USUAL)


def test_init__keeps_what_it_is_given(suite):
    p = replace(USUAL, genesis=now() + 5, randomness=1)
    found = deploy_benchmark(suite.staking, p)
    assert found.STAKING() == suite.staking.address
    assert (found.N(), found.BLOCKS(), found.SAMPLES()) == (p.n, p.blocks, p.samples)
    assert (found.BOND(), found.GENESIS(), found.EPOCH()) == (p.bond, p.genesis, p.epoch)
    assert (found.OPEN_PERIOD(), found.WINDOW()) == (p.open_period, p.window)
    assert (found.DRAW_DELAY(), found.DRAW_PERIOD()) == (p.draw_delay, p.draw_period)
    assert (found.FAULT_PERIOD(), found.BOND_LIFE()) == (p.fault_period, p.bond_life)
    assert (found.SCORE_LIFE(), found.RANDOMNESS()) == (p.score_life, 1)
    assert found.BOND_ID() == bytes(32)


def test_init__genesis_zero_is_now(suite):
    assert deploy_benchmark(suite.staking, USUAL).GENESIS() == now()


# One epoch, all of it open, window, delay and draw.
ROOM = USUAL.open_period + USUAL.window + USUAL.draw_delay + USUAL.draw_period


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
        ({"epoch": 0}, OUT_OF_BOUNDS),
        ({"epoch": YEAR + 1}, OUT_OF_BOUNDS),
        ({"fault_period": YEAR + 1}, OUT_OF_BOUNDS),
        ({"open_period": 0}, ZERO_TIME),
        ({"window": 0}, ZERO_TIME),
        ({"draw_delay": 0}, ZERO_TIME),
        ({"draw_period": 0}, ZERO_TIME),
        ({"fault_period": 0}, ZERO_TIME),
        ({"epoch": ROOM}, TOO_SHORT),
        ({"open_period": DAY}, TOO_SHORT),
        ({"window": DAY}, TOO_SHORT),
        ({"draw_delay": DAY}, TOO_SHORT),
        ({"draw_period": DAY}, TOO_SHORT),
        ({"epoch": 19 * DAY + 1, "bond_life": 60 * DAY}, OUTLAST),
        ({"fault_period": 20 * DAY + 1}, OUTLAST),
        ({"bond_life": 3 * DAY - 1}, BOND_LIFE),
        ({"bond_life": 60 * DAY + 1}, BOND_LIFE),
        ({"bond_life": 0}, BOND_LIFE),
        ({"score_life": 2**16}, "benchmark: score life out of bounds"),
        ({"randomness": 3}, "randomness: unknown source"),
        ({"randomness": 2**256 - 1}, "randomness: unknown source"),
    ],
)
def test_init__out_of_bounds__reverts(suite, changes, reason):
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
        {"epoch": ROOM + 1},
        {"epoch": 19 * DAY, "bond_life": 21 * DAY},
        {"fault_period": 20 * DAY},
        {"open_period": 1, "window": 1, "draw_delay": 1, "draw_period": 1, "fault_period": 1},
        {"bond_life": 3 * DAY},
        {"bond_life": 60 * DAY},
        {"score_life": 0},
        {"score_life": 2**16 - 1},
    ],
    ids=str,
)
def test_init__at_the_bounds(suite, changes):
    deploy_benchmark(suite.staking, replace(USUAL, **changes))


def test_init__genesis(suite):
    with boa.reverts("benchmark: genesis is past"):
        deploy_benchmark(suite.staking, replace(USUAL, genesis=now() - 1))
    assert deploy_benchmark(suite.staking, replace(USUAL, genesis=now())).GENESIS() == now()


def test_init__staking(suite):
    arguments = [256, 1, 4, 1, 0, DAY, 600, 300, 24, 120, DAY, 30 * DAY, 1, 0]
    deploy = deployer_of("Benchmark").deploy
    deploy(suite.staking.address, *arguments)
    with boa.reverts("benchmark: zero staking"):
        deploy(ZERO_ADDRESS, *arguments)
    with boa.reverts():  # an account without code
        deploy(suite.owner, *arguments)


def test_init__longest_epoch():
    """A year in all, when unbonding and locks last as long as Staking allows."""
    p = replace(USUAL, unbonding=YEAR, max_lock=YEAR, epoch=YEAR - DAY, fault_period=DAY)
    suite = deploy_suite(p)
    deploy_benchmark(suite.staking, replace(p, bond_life=YEAR))
    with boa.reverts(OUTLAST):
        deploy_benchmark(suite.staking, replace(p, bond_life=YEAR, fault_period=DAY + 1))
