# SPDX-License-Identifier: Apache-2.0
"""Which jobs are taken, and at what price."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from provider_agent.core.settings import Amount, Section, Unit, split
from teraproof.errors import LocalError
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.terms import address

ANYONE = "anyone"


def _check_trusted(value: str) -> str:
    digest = value.lower().removeprefix("0x")
    if value == ANYONE:
        return value
    if is_hex_digest(digest):
        return digest
    try:
        return address("address", value)
    except LocalError:
        raise ValueError(
            "give an address, the 64 hex digits of a specification, or anyone"
        ) from None


Trusted = Annotated[str, AfterValidator(_check_trusted)]


class JobsSettings(Section):
    """Which jobs are taken."""

    price_per_hour: Annotated[Amount, Unit("payment tokens per hour")] = Decimal(1)
    """Lowest price of a job, for each hour of its timeout."""
    min_price: Annotated[Amount, Unit("payment tokens")] = Decimal("0.01")
    """Lowest price of any job. A job costs you some 200,000 gas, however short it is."""
    max_collateral: Annotated[Amount, Unit("TPF")] = Decimal(1_000)
    """Most collateral that one job may lock. The owner's limits on chain apply as well."""
    collateral_per_token: Annotated[Amount, Unit("TPF per payment token")] = Decimal(100)
    """Most collateral that a job may lock for each payment token of its price."""
    max_seconds: int = Field(default=86_400, ge=1)
    """Longest timeout that a job may ask for."""
    margin_seconds: int = Field(default=60, ge=0)
    """Least time between the timeout of a run and the deadline of its job."""
    quote_seconds: int = Field(default=60, ge=10, le=86_400)
    """How long a signed quote is valid."""
    expire_missed: bool = False
    """End jobs of yours that missed their deadline. The tenant has its money back at once, and the
    collateral is lost even if nobody else would have ended them."""
    accept_judged: Annotated[tuple[Trusted, ...], BeforeValidator(split)] = ()
    """Whose orders with jurors are taken: addresses of tenants, digests of specifications, or
    `anyone`. A job that looks at the date or at the machine gives jurors another result than yours.
    Then you lose the price and the collateral. So name tenants that you trust.
    """
    judged_collateral_per_token: Annotated[Amount, Unit("TPF per payment token")] = Decimal(50)
    """The same as `collateral_per_token` for orders with jurors, if it is less."""
    accept_refusable: bool = False
    """Take orders whose tenant may burn the price and your collateral after the work is done."""

    @property
    def judged_for(self) -> str:
        """For tenants: whose orders with jurors are taken, `anyone`, `listed` ones or `no`."""
        if ANYONE in self.accept_judged:
            return ANYONE
        return "listed" if self.accept_judged else "no"
