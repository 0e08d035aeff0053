# SPDX-License-Identifier: Apache-2.0
"""Nobody judges itself: an order for a court needs jurors for each provider that would take it."""

from __future__ import annotations

import pytest

from teraproof.client.listing import Asked, Listing
from teraproof.courts.docket import Member
from teraproof.market import feasible
from teraproof.market.jury import Bench, Jury
from teraproof.protocol.errors import Code
from tests.sdk.offers import COURT, MARKET, OTHER, OWNER, USD, order, provider, published, spec
from tests.support.codes import fails_as


def member(owner: str, seats: int) -> Member:
    return Member(owner, seats, 9, 0)


@pytest.mark.parametrize(
    ("members", "price", "lacking"),
    [
        # 9 seats, and one more for each 100 tokens: the provider's own do not count.
        ([(OTHER, 9)], 2 * USD, None),
        ([(OTHER, 9), (OWNER, 40)], 2 * USD, None),
        ([(OTHER, 8), (OWNER, 40)], 2 * USD, "8 seats without its own 40 can judge it, 9 are"),
        ([(OWNER, 40)], 2 * USD, "0 seats without its own 40 can judge it, 9 are needed"),
        ([(OTHER, 9)], 100 * USD, "9 seats can judge it, 10 are needed"),
        ([(OTHER, 10), (OWNER, 1)], 100 * USD, None),
        ([], 2 * USD, "0 seats can judge it, 9 are needed"),
    ],
)
def test_judge__nobody_judges_itself__seats_of_others_alone(
    members: list[tuple[str, int]], price: int, lacking: str | None
) -> None:
    bench = Bench(Jury(bytes(32), tuple(member(*one) for one in members)), 9, 100 * USD)
    asked = Asked("http://agent", Listing.parse(published(accept_judged="anyone")))
    given = order(judged=COURT, max_price=price)
    verdict = feasible.judge(MARKET, provider(), asked, spec(), given, bench=bench)
    assert [one.code for one in verdict.refusals] == ([] if lacking is None else [Code.NO_JURY])
    if lacking is not None:
        assert lacking in str(verdict.refusals[0])
        with fails_as(Code.NO_JURY) as caught:
            feasible.require([verdict])
        assert lacking in str(caught.value) and "nothing was sent" in str(caught.value)
        assert feasible.to_json(verdict) in caught.value.details["providers"]


def test_require__no_jury_for_one_provider__another_that_takes_it_is_enough() -> None:
    bench = Bench(Jury(bytes(32), (member(OWNER, 20), member(OTHER, 8))), 9, 100 * USD)
    given, verdicts = order(judged=COURT), []
    for owner in (OWNER, OTHER):
        says = published(owner=owner, accept_judged="anyone")
        asked = Asked("http://agent", Listing.parse(says))
        verdicts.append(
            feasible.judge(MARKET, provider(owner=owner), asked, spec(), given, bench=bench)
        )
    assert [verdict.takes_it for verdict in verdicts] == [False, True]
    feasible.require(verdicts)
    # Who refuses for another reason, too, is not waited for with a jury.
    asked = Asked("http://agent", Listing.parse(published(accept_judged="no")))
    both = feasible.judge(MARKET, provider(), asked, spec(), given, bench=bench)
    with fails_as(Code.NOBODY_TAKES_IT):
        feasible.require([both])
