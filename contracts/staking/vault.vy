# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title TPF in and out of Staking
@license AGPL-3.0-only
@notice The one place that moves TPF, and the credits that wait to be pulled.
        Internal accounting only: tokens that somebody just sends here change
        nothing. I-1: what is in pools, entries and credits has come in through
        here, and has not left yet.
"""

from ethereum.ercs import IERC20

from ..interfaces import IBurnable
from ..interfaces import IMintable
from ..interfaces import IStaking
from ..modules import ledger
from ..modules import token_flow

uses: ledger

TOKEN: public(immutable(IERC20))


@deploy
def __init__(token: IERC20):
    """
    @notice Names the token.
    @param token TPF.
    """
    assert token.address != empty(address), "staking: zero token"
    TOKEN = token


@external
def withdraw(receiver: address = msg.sender) -> uint256:
    """
    @notice Pays out the caller's credit: seizures, bounties, commission.
    @param receiver Receives the TPF.
    @return TPF wei.
    """
    amount: uint256 = ledger._take(msg.sender)
    log IStaking.Withdrawn(account=msg.sender, receiver=receiver, amount=amount)
    self._push(receiver, amount)
    return amount


@internal
def _pull(amount: uint256):
    """
    @dev Takes TPF from the caller, against its allowance.
    @param amount TPF wei.
    """
    token_flow._pull(TOKEN, msg.sender, amount)


@internal
def _push(receiver: address, amount: uint256):
    """
    @dev Sends TPF.
    @param receiver Receives it.
    @param amount TPF wei.
    """
    token_flow._push(TOKEN, receiver, amount)


@internal
def _permit(
    amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32
):
    """
    @dev Uses the caller's EIP-2612 permit; a failure is ignored.
    @param amount TPF wei.
    @param deadline Last second at which the permit is accepted.
    @param v Signature.
    @param r Signature.
    @param s Signature.
    """
    token_flow._permit(TOKEN, msg.sender, amount, deadline, v, r, s)


@internal
def _take_minted(amount: uint256):
    """
    @dev Takes up TPF that was minted to this contract in this very transaction.
    @param amount TPF wei.
    """
    if amount > 0:
        extcall IMintable(TOKEN.address).take_minted(amount)


@internal
def _burn(amount: uint256):
    """
    @dev Burns TPF.
    @param amount TPF wei.
    """
    if amount > 0:
        extcall IBurnable(TOKEN.address).burn(amount)
