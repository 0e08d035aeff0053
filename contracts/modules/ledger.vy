# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title Credit ledger
@license AGPL-3.0-only
@notice Payouts are credited here and pulled later, so that one receiver that
        a token blocks stops nobody else (I-2), and a provider collects many
        payouts in one transfer.
@dev A used slot holds the credit plus one, and never returns to zero: writing
     a slot that is not zero costs 17,100 gas less.
"""

credits: HashMap[address, uint256]


@deploy
def __init__():
    pass


@external
@view
def credit_of(account: address) -> uint256:
    """
    @notice Returns what `account` can withdraw now.
    @param account The credited account.
    @return Credit in the token's smallest unit.
    """
    return self._credit_of(account)


@internal
@view
def _credit_of(account: address) -> uint256:
    stored: uint256 = self.credits[account]
    return stored - min(stored, 1)


@internal
def _credit(account: address, amount: uint256):
    """
    @dev Adds `amount` to what `account` can withdraw.
    """
    if amount == 0:
        return
    stored: uint256 = self.credits[account]
    self.credits[account] = max(stored, 1) + amount


@internal
def _debit(account: address, amount: uint256):
    """
    @dev Takes `amount` from the credit of `account`.
    """
    stored: uint256 = self.credits[account]
    assert stored > amount, "ledger: credit too low"
    self.credits[account] = unsafe_sub(stored, amount)


@internal
def _take(account: address) -> uint256:
    """
    @dev Empties the credit of `account` and returns what it was.
    """
    stored: uint256 = self.credits[account]
    assert stored > 1, "ledger: nothing to withdraw"
    self.credits[account] = 1
    return unsafe_sub(stored, 1)
