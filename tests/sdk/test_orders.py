# SPDX-License-Identifier: Apache-2.0
"""What jobs and leases refuse alike before any money moves, each with its code."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from teraproof.errors import CommandError, WrongInput
from teraproof.market import orders
from teraproof.market.market import Market
from teraproof.protocol.errors import Code, Exit
from teraproof.protocol.terms import ZERO_ADDRESS

NOW = 1_000
OWNER, OPERATOR = "0x" + "11" * 20, "0x" + "22" * 20
CONSENT = 7


@dataclass(frozen=True)
class Chain:
    """An escrow contract, and what Staking says of the operator."""

    owner: str = OWNER
    consent: int = CONSENT
    used: bool = False
    paused: int = 0

    def paused_until(self, block: str) -> int:
        return self.paused

    def max_auction(self, block: str) -> int:
        return 100

    def quote_used(self, operator: str, nonce: int, block: str) -> bool:
        return self.used

    @property
    def market(self) -> Market:
        staking = SimpleNamespace(
            provider_of=lambda operator, block: self.owner,
            consent_nonce=lambda operator, block: self.consent + 1,
        )
        return cast(Market, SimpleNamespace(staking=staking, now=lambda: NOW))


def quote(**changes: Any) -> Any:
    given = {"operator": OPERATOR, "expires": NOW, "nonce": CONSENT << 128 | 5, **changes}
    return SimpleNamespace(**given)


def test_quote_that_can_be_used__says_whom_it_binds() -> None:
    assert orders.check_quote(Chain().market, Chain(), quote()) == OWNER


@pytest.mark.parametrize(
    ("chain", "given", "code"),
    [
        (Chain(), quote(expires=NOW - 1), Code.QUOTE_INVALID),
        (Chain(used=True), quote(), Code.QUOTE_INVALID),
        (Chain(consent=CONSENT + 1), quote(), Code.QUOTE_INVALID),
        (Chain(consent=CONSENT - 1), quote(), Code.QUOTE_INVALID),
        (Chain(owner=ZERO_ADDRESS), quote(), None),
    ],
)
def test_quote_that_cannot_be_used__refused(chain: Chain, given: Any, code: Code | None) -> None:
    with pytest.raises(CommandError) as caught:
        orders.check_quote(chain.market, chain, given)
    assert code is None or caught.value.code is code
    assert "\n" not in str(caught.value)


def test_market_that_takes_no_orders__says_until_when() -> None:
    orders.check_open(Chain().market, Chain(paused=NOW), "leases")
    with pytest.raises(CommandError, match="new leases are paused") as caught:
        orders.check_open(Chain().market, Chain(paused=NOW + 1), "leases")
    assert caught.value.code is Code.ORDERS_PAUSED


def test_auction__up_to_the_longest() -> None:
    orders.check_auction(Chain(), 100)
    with pytest.raises(WrongInput) as caught:
        orders.check_auction(Chain(), 101)
    assert caught.value.code.exit is Exit.INPUT
