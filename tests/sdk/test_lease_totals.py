# SPDX-License-Identifier: Apache-2.0
"""What is shown before signing is never less than what is charged: random leases on the real
contract, with everything that moves money: auctions, quotes, silence, top-ups, notices, ends.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import pytest

from teraproof.errors import WrongInput
from teraproof.market import lease_orders
from teraproof.market.lease_prices import (
    decimal,
    hour_of,
    hourly,
    rate_within,
    show_amount,
    show_dollars,
)
from teraproof.market.market import Market
from teraproof.market.ui import QuietUi
from teraproof.protocol import messages
from teraproof.protocol.lease_match import LeaseRequest
from teraproof.protocol.lease_terms import LeaseTerms
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.sdl.leases import HOUR, Lease, read
from tests.contracts.stateful.lease_world import LeaseWorld, lease_world
from tests.contracts.stateful.world import SIGNING, STRANGER, TENANTS
from tests.support import budget
from tests.support.sdl import SMALL

LEASES = budget.of(200, 1_000)
SEED = 20_261_129
UNIT = 10**6


def ordered(chance: random.Random) -> tuple[Lease, Fraction]:
    """A file with a random price, and dollars for one AKT."""
    denom = chance.choice(["uact", "uakt"])
    places = chance.choice([0, 0, 1, 6, 18])
    amount = f"{chance.choice([1, 17, 150, 4_999, 100_000, 7_654_321])}"
    if places:
        amount += "." + "".join(chance.choice("0123456789") for _ in range(places))
    text = SMALL.replace("denom: uact", f"denom: {denom}")
    text = text.replace("amount: 150", f"amount: {amount}")
    text = text.replace("count: 1", f"count: {chance.choice([1, 2, 3, 50])}")
    (lease,) = read(text.encode())
    return lease, Fraction(chance.randint(1, 3_000_000), 10**6)


class Rental:
    """One lease, from the file to the last token back."""

    def __init__(self, world: LeaseWorld, chance: random.Random, number: int) -> None:
        self.world, self.chance, self.number = world, chance, number
        self.leases, self.chain = world.suite.leases, world.chain
        self.tenant = TENANTS[number % 2]
        self.owner = chance.choice([*world.operators])
        self.operator = world.operators[self.owner]
        self.shown = Fraction(0)
        """Dollars that the tenant has agreed to."""

    def balance(self) -> int:
        wallet = self.world.suite.payment.balanceOf(self.tenant)
        return int(wallet + self.leases.credit_of(self.tenant))

    def total(self, ui: QuietUi) -> Fraction:
        """The dollars of the line that a person reads."""
        (line,) = [one for one in ui.lines if "total, everything included | " in one]
        return Fraction(line.rpartition("$")[2].replace(",", ""))

    def market(self) -> Market:
        chain = SimpleNamespace(challenge_window=lambda block: self.leases.challenge_window())
        now = lambda: self.chain.now  # noqa: E731 - a stand-in for a method
        return cast(Market, SimpleNamespace(leases=chain, decimals=6, now=now))

    def request(self, lease: Lease, akt: Fraction) -> LeaseRequest:
        return LeaseRequest(
            spec=lease.spec,
            max_rate=rate_within(lease.dollars(HOUR, akt), UNIT),
            ready_within=900,
            term=self.chance.choice([3_600, 7_201, 86_400, 10 * 86_400 - 1]),
            notice=self.chance.choice([0, 600]),
        )

    def run(self, lease: Lease, akt: Fraction) -> None:
        chance, before = self.chance, self.balance()
        request = self.request(lease, akt)
        grace = int(self.leases.challenge_window())
        paid_for = chance.choice([None, grace + 1, request.term // 2])
        ui = QuietUi()
        if chance.random() < 0.5:
            start = chance.randint(1, request.max_rate)
            order = lease_orders.order_of(
                request, start_rate=start, auction=chance.choice([0, 60, 600]), paid_for=paid_for
            )
            lease_orders.show_order(self.market(), ui, "Open", request, order)
            terms = self.opened("open", order.abi_tuple(), False)
            self.chain.now += chance.randint(0, 700)
            self.by_operator("accept", terms, [])
        else:
            quote = self.quote(request, chance.randint(1, request.max_rate))
            seconds = quote.term if paid_for is None else paid_for
            order = quote.order(quote.rate * seconds)
            lease_orders.show_order(self.market(), ui, "Hire", request, order)
            key = SIGNING[self.operator]
            signed = messages.sign(self.world.leases, quote, key)
            terms = self.opened("hire", quote.abi_tuple(), signed, order.deposit, False)
        self.shown = self.total(ui)
        assert self.shown * UNIT >= order.deposit == before - self.balance()
        seconds = self.live(terms)
        charged = Fraction(before - self.balance(), UNIT)
        assert 0 <= charged <= self.shown, (self.number, charged, self.shown)
        # Nor more than the file's own price for those seconds.
        most = lease.dollars(HOUR, akt) / HOUR
        assert charged <= most * seconds
        assert charged * HOUR <= Fraction(decimal(hour_of(request.max_rate, UNIT))) * seconds

    def quote(self, request: LeaseRequest, rate: int) -> messages.LeaseQuote:
        return messages.LeaseQuote(
            operator=self.operator,
            requester=ZERO_ADDRESS,
            spec=request.spec.digest(),
            rate=rate,
            collateral=0,
            ready_within=request.ready_within,
            term=request.term,
            notice=request.notice,
            expires=2**40,
            nonce=messages.quote_nonce(0, self.number),
        )

    def opened(self, name: str, *arguments: Any) -> LeaseTerms:
        getattr(self.leases, name)(*arguments, sender=self.tenant)
        (found,) = [said for event, said in self.chain.happened() if event == "Opened"]
        return LeaseTerms.from_abi(found["terms"])

    def by_operator(self, name: str, terms: LeaseTerms, *more: Any) -> None:
        getattr(self.leases, name)(terms.abi_tuple(), *more, sender=self.operator)

    def tried(self, call: Callable[[], Any]) -> None:
        """What the contract may refuse."""
        try:
            call()
        except Exception as error:
            assert "leases:" in str(error) or "lease" in str(error), error

    def live(self, terms: LeaseTerms) -> int:
        """Everything that moves money, to the end; the seconds from `ready` to the last one."""
        packed, began = terms.abi_tuple(), self.chain.now
        self.by_operator("ready", terms)
        if self.chance.random() < 0.1:
            self.leases.reject(packed, sender=self.tenant)
            return 0
        if self.chance.random() < 0.7:
            self.leases.confirm(packed, sender=self.tenant)
        for _ in range(self.chance.randint(0, 6)):
            self.chain.now += self.chance.choice([1, 59, 60, 600, 3_600, 90_000])
            what = self.chance.random()
            if what < 0.6:
                number = self.leases.number_of(self.owner)
                self.leases.heartbeat(number, sender=self.operator)
            elif what < 0.75:
                self.tried(lambda: self.leases.settle(packed, sender=STRANGER))
            elif what < 0.9:
                self.tried(lambda: self.top_up(terms))
            else:
                self.tried(lambda: self.by_operator("give_notice", terms))
        self.leases.close(packed, sender=self.tenant)
        return self.chain.now - began

    def top_up(self, terms: LeaseTerms) -> None:
        amount = self.chance.randint(1, terms.order.max_rate * 3_600)
        before = self.balance()
        self.leases.top_up(terms.abi_tuple(), amount, False, sender=self.tenant)
        self.shown += Fraction(show_amount(amount, UNIT)[1:].replace(",", ""))
        assert self.balance() == before - amount


def test_total__never_less_than_what_is_charged() -> None:
    world, chance = lease_world(), random.Random(SEED)
    kept = world.chain.snapshot()
    done = 0
    for number in range(10**6):
        lease, akt = ordered(chance)
        rental = Rental(world, chance, number)
        try:
            rate_within(lease.dollars(HOUR, akt), UNIT)
        except WrongInput:
            continue  # less than a unit a second: refused before anything is sent
        rental.run(lease, akt)
        done += 1
        if done == LEASES:
            break
    world.chain.revert(kept)


def test_rate__a_unit_more_would_cost_more_than_was_said() -> None:
    chance = random.Random(SEED)
    for unit in (10**6, 10**18):
        for _ in range(500):
            dollars = Fraction(chance.randint(1, 10**9), chance.choice([1, 7, 10**3, 10**6]))
            rate = rate_within(dollars + Fraction(HOUR, unit), unit)
            assert hour_of(rate, unit) <= dollars + Fraction(HOUR, unit) < hour_of(rate + 1, unit)


def test_shown__rounded_up_whatever_the_token_holds() -> None:
    chance = random.Random(SEED)
    for decimals in (0, 2, 6, 8, 18):
        for _ in range(500):
            amount = chance.randint(0, 10 ** chance.randint(1, 30))
            text = show_amount(amount, 10**decimals)
            shown = Fraction(text[1:].replace(",", ""))
            assert 0 <= shown - Fraction(amount, 10**decimals) < Fraction(1, 10**6), text


def test_price__less_than_a_unit_a_second__one_line_that_says_the_least() -> None:
    with pytest.raises(WrongInput, match=r"at least \$0.0036"):
        rate_within(Fraction(3_599, 10**6), UNIT)
    assert rate_within(Fraction(36, 10_000), UNIT) == 1


@pytest.mark.parametrize("text", ["", "-1", "1e3", "nan", "1,5", "x"])
def test_price__not_a_number__named(text: str) -> None:
    with pytest.raises(WrongInput, match="--max-price"):
        hourly(text, "--max-price")


def test_price__with_and_without_the_sign() -> None:
    assert hourly("$1.25", "price") == hourly("1.25", "price") == Fraction(5, 4)
    assert show_dollars(Fraction(5, 4)) == "$1.25" and show_dollars(Fraction(1, 3)) == "$0.333334"
