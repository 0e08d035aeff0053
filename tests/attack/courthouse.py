# SPDX-License-Identifier: Apache-2.0
"""A market with a court of the shipped sizes: a provider, a tenant, an outsider and jurors.

Everything else of the suite stands there too. What the people own is read by the contracts' views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from benchmarks.courts.rules import MONEY, SHIPPED
from teraproof.protocol.messages import Attestation, Domain, OperatorConsent, sign
from tests.attack.wealth import Purse, Wealth
from tests.contracts.codec import word
from tests.contracts.deploy import (
    DAY,
    TPF,
    USD,
    Parameters,
    Suite,
    account_of,
    address_of,
    deploy_suite,
    deployed_by,
)
from tests.contracts.revm import Revm
from tests.contracts.stateful.lens import Lens
from tests.contracts.stateful.machine import FAR
from tests.contracts.stateful.trial import CAPABILITY
from tests.contracts.stateful.world import PARAMETERS, STARTED, UNLIMITED

HOUR = 3_600
# The sizes of docs/courts-economics.md, a TPF taken as a dollar; the times of the public plans.
SIZES = replace(
    PARAMETERS,
    max_lock=60 * DAY,
    fee_bps=round(SHIPPED.protocol_fee * 10_000),
    victim_bps=round(SHIPPED.victim_part * 10_000),
    bounty_bps=5_000,
    period=HOUR,
    seat=500 * TPF,
    small_fine=round(SHIPPED.small_fees) * TPF // USD,
    big_fine=round(SHIPPED.big_fees) * TPF // USD,
    term=30 * DAY,
    panel=SHIPPED.panel,
    redraw_panel=SHIPPED.redraw_panel,
    appeal_panel=SHIPPED.appeal_panel,
    panel_min=MONEY.panel_min,
    price_per_seat=round(MONEY.price_per_seat * USD),
    juror_fee_bps=round(SHIPPED.fee * 10_000),
    min_fee=round(MONEY.min_fee * USD),
    hourly_fee=round(MONEY.fee_per_hour * USD),
    attendance=USD // 20,
    draw_time=HOUR,
    commit_time=round(MONEY.commit_hours * HOUR),
    reveal_time=round(MONEY.reveal_hours * HOUR),
    redraw_time=round(MONEY.redraw_hours * HOUR),
    appeal_time=round(MONEY.appeal_hours * HOUR),
    close_time=2 * DAY,
)
FORTUNE = 10**6
# Seats of each juror from the start; the last two have none.
SEATS = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 6, 10, 0, 0)
JURORS = tuple(range(len(SEATS)))
NEWCOMERS = tuple(n for n in JURORS if not SEATS[n])

PROVIDER, TENANT = address_of("accused provider"), address_of("accusing tenant")
# Another face of whoever is hostile; it holds no right.
PUPPET = address_of("puppet")
JUROR = tuple(address_of(f"drawn juror {n}") for n in JURORS)
STAKERS = (PROVIDER, *JUROR)
PEOPLE = (*STAKERS, TENANT, PUPPET)
OPERATOR = {owner: account_of(f"operator of {owner}") for owner in STAKERS}
# What the provider may name in its operator's place.
SPARE = account_of("spare operator")


@dataclass(frozen=True)
class Courthouse:
    """The suite, its people, and what signs for them."""

    p: Parameters
    chain: Revm
    suite: Suite
    consent: tuple[int, int, bytes]
    """Of the spare operator to the provider."""
    purse: Purse

    def send(self, target: str, args: Sequence[Any], sender: str) -> str | None:
        """A call that may be refused: why it was."""
        contract, name = target.split(".")
        return self.chain.send(contract, name, args, sender).reason

    def view(self, target: str, *args: Any) -> Any:
        contract, name = target.split(".")
        return self.chain.view(contract, name, *args)

    def sign(self, message: Attestation, signer: str) -> bytes:
        domain = Domain(1, self.chain.addresses["jobs"])
        return sign(domain, message, OPERATOR[signer])

    def wealth(self) -> Wealth:
        return self.purse.look()


@cache
def courthouse() -> Courthouse:
    """Deployed once a process."""
    return build(Revm(STARTED))


def build(chain: Revm) -> Courthouse:
    """Deploy everything, with jurors whose seats count."""
    with deployed_by(chain.deployer):
        suite = deploy_suite(SIZES, with_benchmark=True, with_court=True)
    for name in ("token", "payment", "staking", "jobs", "disputes"):
        chain.rename(getattr(suite, name), name)
    staking = Domain(1, str(suite.staking.address))
    for who in PEOPLE:
        suite.token.transfer(who, FORTUNE * TPF, sender=suite.faucet)
        suite.token.approve(suite.staking.address, UNLIMITED, sender=who)
        suite.payment.mint(who, FORTUNE * USD)
        suite.payment.approve(suite.jobs.address, UNLIMITED, sender=who)
    for who in STAKERS:
        operator = OPERATOR[who]
        signed = sign(staking, OperatorConsent(who, operator.address, 0, FAR), operator)
        limits = (10**27, 10**27)
        args = (operator.address, who, 0, *limits, "url", 0, FAR, signed)
        suite.staking.register(*args, sender=who)
        suite.staking.delegate(who, FORTUNE // 2 * TPF, sender=who)
    for juror, seats in zip(JUROR, SEATS, strict=True):
        if seats:
            suite.disputes.enlist(CAPABILITY, seats, sender=OPERATOR[juror].address)
    chain.now = (chain.now // SIZES.period + 1) * SIZES.period
    signed = sign(staking, OperatorConsent(PROVIDER, SPARE.address, 0, FAR), SPARE)
    lens = Lens(chain)
    purse = Purse(lens, chain.addresses, "jobs", PEOPLE, STAKERS)
    return Courthouse(SIZES, chain, suite, (0, FAR, signed), purse)


def word_of(text: str, number: int) -> bytes:
    """A word that nobody has chosen."""
    return word(int.from_bytes(text.encode(), "big") << 64 | number)
