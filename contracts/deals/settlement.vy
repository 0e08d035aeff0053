# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title How a job is paid, or paid back
@license AGPL-3.0-only
@notice I-5: the price of a job goes one way, once: to the provider, less the fee, or
        back to the requester, who gets of the collateral what the deal says.
@dev Nothing is stored here.
"""

from . import collateral
from . import escrow
from . import job_book
from . import job_terms
from ..interfaces import IJobs

uses: collateral
uses: escrow
uses: job_book

MAX_BPS: constant(uint256) = 10_000


@deploy
def __init__():
    pass


@internal
def _settle(job: bytes32, provider: address, price: uint256, fee_bps: uint256):
    """
    @dev Pays the provider of a job.
    """
    job_book._write(job, job_terms.SETTLED)
    fee: uint256 = price * fee_bps // MAX_BPS
    escrow._accrue(fee)
    payout: address = collateral._unlock(provider, job)
    escrow._pay(payout, price - fee)
    log IJobs.Settled(job=job, provider=provider, paid=price - fee, fee=fee)


@internal
def _refund(
    job: bytes32,
    provider: address,
    requester: address,
    price: uint256,
    hunter: address,
):
    """
    @dev Pays a job back for a fault that was ruled or shown; a stranger that showed it
         earns the bounty.
    """
    job_book._write(job, job_terms.REFUNDED)
    escrow._pay(requester, price)
    seized: uint256 = collateral._seize(provider, job, requester, hunter)
    log IJobs.Refunded(job=job, provider=provider, refund=price, seized=seized)
