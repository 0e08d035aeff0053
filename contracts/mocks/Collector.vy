# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Collector of deposits that obeys anybody, for tests
@license AGPL-3.0-only
@notice Pulls a deposit from the payer, against an allowance; a part of it, or more,
        if somebody sets it so. Before that it makes the call that it was armed with, as
        itself, and remembers whether that worked.
"""

from ethereum.ercs import IERC20

from ..interfaces import IDepositCollector

implements: IDepositCollector

# What it brings more, or less.
surplus: public(int256)
tried: public(bool)
succeeded: public(bool)
target: address
data: Bytes[2_048]


@external
def bring(surplus: int256):
    """
    @notice Sets what later deposits bring more or less than they should.
    @param surplus Units of the token.
    """
    self.surplus = surplus


@external
def arm(target: address, data: Bytes[2_048]):
    """
    @notice Sets the call of every later deposit.
    @param target The contract.
    @param data Calldata.
    """
    self.target = target
    self.data = data


@external
def collect(
    payer: address,
    token: address,
    amount: uint256,
    channelId: bytes32,
    collectorData: Bytes[2_048],
):
    """
    @notice Pulls a deposit.
    @param payer Has given an allowance.
    @param token The token.
    @param amount Its units.
    @param channelId The channel; not looked at.
    @param collectorData Not looked at.
    """
    if self.target != empty(address):
        self.tried = True
        self.succeeded = raw_call(
            self.target, self.data, revert_on_failure=False
        )
    brought: int256 = convert(amount, int256) + self.surplus
    assert extcall IERC20(token).transferFrom(
        payer, msg.sender, convert(brought, uint256)
    )
