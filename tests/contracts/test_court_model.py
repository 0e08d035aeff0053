# SPDX-License-Identifier: Apache-2.0
"""Random juries before the contract and before the economics model: the same rulings and fees."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from benchmarks.courts.rules import Ruling, ruling
from tests.contracts.actions import Provider
from tests.contracts.court import RIGHT, RULED, WITHHELD, WRONG, Case, Court
from tests.contracts.court_room import wait

pytestmark = pytest.mark.invariant("I-5", "I-12")

VOTES: tuple[Any, ...] = (RIGHT, (WRONG, b"one"), (WRONG, b"two"), WITHHELD, None)
NUMBERS = {
    Ruling.NO_QUORUM: 0,
    Ruling.PROVIDER: 1,
    Ruling.TENANT: 2,
    Ruling.WITHHELD: 3,
    Ruling.UNDECIDED: 4,
}


def modelled(jury: list[tuple[int, int]], said: list[Any], size: int) -> tuple[Ruling, int]:
    """The model's ruling, and how many votes have the fee by it."""
    count = Counter[Any]()
    for (_, votes), vote in zip(jury, said, strict=True):
        count[vote] += votes
    wrong = sorted((count[VOTES[1]], count[VOTES[2]]))
    numbers = [np.array([n]) for n in (count[RIGHT], wrong[1], count[WITHHELD], wrong[0])]
    right, most, withheld, strays = numbers
    found = Ruling(int(ruling(right, most, withheld, size, strays)[0]))
    return found, {Ruling.PROVIDER: count[RIGHT], Ruling.TENANT: wrong[1]}.get(found, 0)


@pytest.mark.parametrize("seed", range(30))
def test_close__random_panel__ruled_and_paid_as_the_model_says(
    court: Court, case: Case, accused: Provider, tenant: str, seed: int
) -> None:
    chosen = random.Random(seed)
    jury = court.draw(case, b"%d" % seed)
    said = chosen.choices(VOTES, (4, 3, 1, 2, 1), k=len(jury))
    court.vote(case, said)
    found, paid = modelled(jury, said, court.p.panel)
    if court.standing(case)[1] < RULED - 1:
        wait(court, case)
    assert court.standing(case)[3] == NUMBERS[found]
    while court.standing(case)[2]:
        wait(court, case)
    won, to_tenant, to_provider, pays = court.close(case)
    assert won == (found in (Ruling.TENANT, Ruling.WITHHELD))
    assert to_tenant + to_provider + sum(amount for _, amount in pays) == court.bond(case)
    if found in (Ruling.PROVIDER, Ruling.TENANT):
        assert sum(amount for _, amount in pays) == paid * court.fee(case)
        assert to_provider == 0
