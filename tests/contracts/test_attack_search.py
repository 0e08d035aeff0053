# SPDX-License-Identifier: Apache-2.0
"""The search of `make attack` finds faults that are planted in Staking, and nothing else.

Also: docs/attacks.md names the tests that hold the known faults.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from tests.attack import known, page
from tests.attack.market import EVIL, HONEST, MOMENTS, TWIN, Moment, moment
from tests.attack.search import Share, work
from tests.contracts import revm
from tests.contracts.plant import SEED, check_found, plant
from tests.contracts.stateful import story
from tests.contracts.stateful.world import STARTED, STRANGER, build

# Wei of rounding in a story.
FEW = 100

# The moment at which it shows; file, line, and what is planted in its place.
PLANTED = {
    "a reward is shared by the stake of the claim": (
        "scored",
        "staking/stakes.vy",
        "    if holds._is_unsettled(provider):\n        self.entries",
        "    if False:\n        self.entries",
    ),
    "who leaves gets a millionth too much": (
        "claimed",
        "staking/pools.vy",
        "    moved: uint256 = shares._to_assets(amount, active, total)\n",
        "    moved: uint256 = shares._to_assets(amount, active, total)\n"
        "    moved += moved // 10**6\n",
    ),
    "the commission is that of the claim": (
        "scored",
        "staking/holds.vy",
        "    return hold >> COMMISSION_AT",
        "    return registry._commission_of(provider)",
    ),
}


@pytest.fixture
def planted(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A world of its own, whose Staking has the fault; the moment at which to look."""
    name, file, line, fault = PLANTED[request.param]
    plant("Staking", file, line, fault, tmp_path, monkeypatch)
    made = build(revm.Revm(STARTED))
    monkeypatch.setattr(story, "world", lambda: made)
    return name


@pytest.mark.parametrize("planted", PLANTED, indirect=True)
def test_search__finds_what_is_planted(planted: str) -> None:
    check_found(planted, r"gains \d+ wei: [a-z ]+ \(by ", tries=5_000)


@pytest.mark.parametrize("name", MOMENTS)
def test_search__finds_nothing_else(name: str) -> None:
    share = work(name, range(50), SEED)
    assert share == Share(50, share.calls, 0)
    assert share.calls > 50


@pytest.mark.parametrize("name", MOMENTS)
def test_moment__is_as_before_after_a_strategy(name: str) -> None:
    with moment(name) as at:
        before = at.wealth(), at.story.now
        assert at.outcome([]) == (at.honest, at.attackers, at.outcome([])[2])
        assert (at.wealth(), at.story.now) == before


def test_sabotage__of_an_own_pool__pays_less_than_honest_work_for_the_other() -> None:
    """Not stopped, so the search leaves it out: a proof that its own provider lets fail.

    Fewer have earned the emission then, and the attacker's other pool has a larger part of it.
    """
    with moment("drawn") as at:
        p, whole = at.story.p, Fraction(at.story.part(0, at.story.epochs[-1]))

        def let_fail(at: Moment) -> None:
            for provider in (HONEST, TWIN):
                at.show(provider)
            at.story.chain.now = at.ends_at
            at.send("benchmark", "fail", (EVIL,), STRANGER)

        honest, rest, _ = at.outcome([let_fail])
        # Of 4, 3 and 1 rounds the first fail; in that pool the attacker has 5,000 of 45,000 TPF.
        own = Fraction(5, 45)
        gain = whole * (Fraction(1, 4) - Fraction(1, 8)) - own * (whole / 2 + p.bond)
        loss = (1 - own) * (whole / 2 + p.bond) - whole * (Fraction(3, 4) - Fraction(3, 8))
        assert abs(rest - at.attackers - gain) <= FEW
        assert abs(at.honest - honest - loss) <= FEW
        # The same four rounds proven by the other provider, with stake of its own alone.
        assert gain < whole / 2 - own * whole / 2


def test_page__names_every_test_that_holds_a_known_fault() -> None:
    rows = re.findall(r"^\|.*`(test_\w+)` \|$", page.PAGE.read_text(), re.M)
    assert rows == [fault.test for fault in known.FAULTS]
