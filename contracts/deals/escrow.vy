# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Escrow of a payment token
@license AGPL-3.0-only
@notice Holds what tenants pay until a deal ends: deposits, payouts and refunds
        are credits that their account pulls; fees accrue for the treasury.

        I-1 open escrows + credits + accrued fees = tokens received - sent.
            What is burned is a credit of an address that nobody has the key of.
        I-2 one receiver that the token blocks stops nobody else.
@dev Internal accounting, never the balance: donated tokens change nothing. The
     using contract keeps the sum of its open escrows, deal by deal.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable

from ..modules import ledger
from ..modules import token_flow

uses: ownable
uses: ledger


event Deposited:
    account: indexed(address)
    amount: uint256


event Withdrawn:
    account: indexed(address)
    receiver: indexed(address)
    amount: uint256


event FeesCollected:
    treasury: indexed(address)
    amount: uint256


event TreasuryChanged:
    treasury: indexed(address)


BURNED: public(constant(address)) = 0x000000000000000000000000000000000000dEaD

PAYMENT_TOKEN: public(immutable(IERC20))

treasury: public(address)
# Plus one once it was used, like a credit: writing a slot that is not zero is
# cheaper.
_fees: uint256


@deploy
def __init__(payment_token: IERC20, treasury: address):
    assert (
        payment_token.address != empty(address)
    ), "escrow: zero payment token"
    PAYMENT_TOKEN = payment_token
    self._set_treasury(treasury)


# ------------------------------------------------------------ money in and out


@external
def deposit(amount: uint256):
    """
    @notice Adds to the caller's credit, from which deals can be paid.
    @param amount Payment token units, pulled from the caller.
    """
    self._deposit(amount)


@external
def deposit_with_permit(
    amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32
):
    """
    @notice `deposit` with an EIP-2612 permit in place of an allowance.
    @param amount Payment token units, pulled from the caller.
    @param deadline Last second at which the permit is accepted.
    @param v Signature.
    @param r Signature.
    @param s Signature.
    """
    token_flow._permit(PAYMENT_TOKEN, msg.sender, amount, deadline, v, r, s)
    self._deposit(amount)


@external
def withdraw(receiver: address = msg.sender) -> uint256:
    """
    @notice Pays out the caller's whole credit: payouts, refunds, deposits.
    @param receiver Receives the tokens.
    @return Payment token units.
    """
    amount: uint256 = ledger._take(msg.sender)
    log Withdrawn(account=msg.sender, receiver=receiver, amount=amount)
    token_flow._push(PAYMENT_TOKEN, receiver, amount)
    return amount


@external
def collect_fees() -> uint256:
    """
    @notice Sends the accrued fees to the treasury. Anyone may call it.
    @return Payment token units.
    """
    amount: uint256 = self._accrued()
    assert amount > 0, "escrow: no fees"
    self._fees = 1
    log FeesCollected(treasury=self.treasury, amount=amount)
    token_flow._push(PAYMENT_TOKEN, self.treasury, amount)
    return amount


@external
def set_treasury(treasury: address):
    """
    @notice Names who receives fees (owner only).
    @param treasury The receiver.
    """
    ownable._check_owner()
    self._set_treasury(treasury)


@external
@view
def accrued_fees() -> uint256:
    """
    @notice Returns fees not yet collected, in payment token units.
    """
    return self._accrued()


# -------------------------------------------------------------------- internal


@internal
def _take_in(amount: uint256, from_credit: bool):
    """
    @dev Takes an escrow from the caller: its tokens, or its credit. To be the
         last step of a call: the token is a stranger.
    """
    if from_credit:
        ledger._debit(msg.sender, amount)
    else:
        token_flow._pull(PAYMENT_TOKEN, msg.sender, amount)


@internal
def _pay(account: address, amount: uint256):
    """
    @dev Credits a part of an escrow to whoever earned it, or gets it back.
    """
    ledger._credit(account, amount)


@internal
def _burn(amount: uint256):
    """
    @dev Credits a part of an escrow to nobody.
    """
    ledger._credit(BURNED, amount)


@internal
def _accrue(fee: uint256):
    """
    @dev Keeps a part of an escrow for the treasury.
    """
    if fee > 0:
        self._fees = max(self._fees, 1) + fee


@internal
@view
def _accrued() -> uint256:
    """
    @dev Fees not yet collected.
    """
    stored: uint256 = self._fees
    return stored - min(stored, 1)


@internal
def _deposit(amount: uint256):
    """
    @dev Credits the caller, then pulls.
    """
    assert amount > 0, "escrow: zero amount"
    ledger._credit(msg.sender, amount)
    log Deposited(account=msg.sender, amount=amount)
    token_flow._pull(PAYMENT_TOKEN, msg.sender, amount)


@internal
def _set_treasury(treasury: address):
    """
    @dev Writes the receiver of fees.
    """
    assert treasury != empty(address), "escrow: zero treasury"
    self.treasury = treasury
    log TreasuryChanged(treasury=treasury)
