# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title The book of channels
@license AGPL-3.0-only
@notice What each channel holds, what of it is claimed, what of the claims is
        paid out, and which withdrawal is under way.

        I-1 for each token: deposits less what was given back, over all channels,
            less what was settled, over all receivers, is what this contract has.
        I-9 claimed <= deposit in each channel, and a channel's claims only grow:
            a voucher that was claimed is worth nothing more.
@dev Two numbers of 128 bits in a word, low bits first. Nothing is ever deleted
     but a withdrawal that has ended.
"""

_LOW: constant(uint256) = 2**128 - 1

# channel -> balance, claimed and unclaimed | total claimed
_channels: HashMap[bytes32, uint256]
# channel -> amount | time of its start (unix seconds), 0 = none
_withdrawals: HashMap[bytes32, uint256]
# channel -> how many refunds there were
_refunds: HashMap[bytes32, uint256]
# receiver -> token -> total claimed | total settled
_receivers: HashMap[address, HashMap[address, uint256]]


@deploy
def __init__():
    pass


# ----------------------------------------------------------------------- views


@external
@view
@reentrant
def channels(channelId: bytes32) -> (uint128, uint128):
    """
    @notice Returns what a channel holds.
    @param channelId The channel.
    @return Deposits less what was given back, in the token's smallest unit. What
            the receiver has claimed is part of it, settled or not.
    @return What of it is claimed.
    """
    return self._halves(self._channels[channelId])


@external
@view
@reentrant
def pendingWithdrawals(channelId: bytes32) -> (uint128, uint40):
    """
    @notice Returns the withdrawal that is under way.
    @param channelId The channel.
    @return What the payer asked for, in the token's smallest unit.
    @return When it began (unix seconds); 0 if there is none.
    """
    withdrawal: uint256 = self._withdrawals[channelId]
    return (
        convert(withdrawal & _LOW, uint128),
        convert(withdrawal >> 128, uint40),
    )


@external
@view
@reentrant
def refundNonce(channelId: bytes32) -> uint256:
    """
    @notice Returns the nonce of the next signed refund.
    @param channelId The channel.
    """
    return self._refunds[channelId]


@external
@view
@reentrant
def receivers(receiver: address, token: address) -> (uint128, uint128):
    """
    @notice Returns what a receiver has claimed in a token, over all channels.
    @param receiver The receiver.
    @param token The token.
    @return Claimed in total, in the token's smallest unit.
    @return Settled in total: what was sent to it.
    """
    return self._halves(self._receivers[receiver][token])


# -------------------------------------------------------------- deposits, claims


@internal
def _put_in(channel: bytes32, amount: uint256) -> (uint256, bool):
    """
    @dev Adds a deposit. Returns the new balance, and whether the channel was empty
         and never claimed from.
    """
    state: uint256 = self._channels[channel]
    balance: uint256 = (state & _LOW) + amount
    assert balance <= _LOW, "channels: deposit too large"
    self._channels[channel] = (state & ~_LOW) | balance
    return (balance, state == 0)


@internal
def _raise(channel: bytes32, total: uint256) -> uint256:
    """
    @dev Raises what of a channel is claimed to `total`. Returns by how much; 0 when
         as much was claimed before.
    """
    state: uint256 = self._channels[channel]
    claimed: uint256 = state >> 128
    if total <= claimed:
        return 0
    balance: uint256 = state & _LOW
    assert total <= balance, "channels: claim exceeds the balance"
    self._channels[channel] = total << 128 | balance
    return unsafe_sub(total, claimed)


@internal
def _credit(receiver: address, token: address, amount: uint256):
    """
    @dev Adds claims to a receiver's.
    """
    if amount == 0:
        return
    account: uint256 = self._receivers[receiver][token]
    # Only a token that prints without end has as many units.
    assert (account & _LOW) + amount <= _LOW, "channels: claims too large"
    self._receivers[receiver][token] = unsafe_add(account, amount)


@internal
def _settle(receiver: address, token: address) -> uint256:
    """
    @dev Marks all claims of a receiver as paid out. Returns how much that is.
    """
    account: uint256 = self._receivers[receiver][token]
    claimed: uint256 = account & _LOW
    due: uint256 = claimed - (account >> 128)
    if due != 0:
        self._receivers[receiver][token] = claimed << 128 | claimed
    return due


# ------------------------------------------------------------------- giving back


@internal
def _begin_withdrawal(channel: bytes32, amount: uint256):
    """
    @dev Announces that the payer takes back `amount`.
    """
    assert (
        self._withdrawals[channel] == 0
    ), "channels: withdrawal already pending"
    state: uint256 = self._channels[channel]
    assert (
        amount <= (state & _LOW) - (state >> 128)
    ), "channels: withdrawal exceeds the unclaimed"
    self._withdrawals[channel] = block.timestamp << 128 | amount


@internal
def _end_withdrawal(channel: bytes32, delay: uint256) -> (uint256, bool):
    """
    @dev Takes a withdrawal that has waited out of the channel, or what of it is
         still unclaimed. Returns how much, and whether the channel is empty and
         was never claimed from.
    """
    withdrawal: uint256 = self._withdrawals[channel]
    assert withdrawal != 0, "channels: no withdrawal pending"
    assert (
        block.timestamp >= (withdrawal >> 128) + delay
    ), "channels: withdraw delay not over"
    self._withdrawals[channel] = 0
    return self._take_out(channel, withdrawal & _LOW)


@internal
def _give_back(channel: bytes32, amount: uint256) -> (uint256, bool):
    """
    @dev Takes a refund out of the channel, or what of it is unclaimed; it counts
         for a pending withdrawal. Returns like `_end_withdrawal`.
    """
    self._refunds[channel] = unsafe_add(self._refunds[channel], 1)
    taken: uint256 = 0
    empty_now: bool = False
    taken, empty_now = self._take_out(channel, amount)
    if taken != 0:
        withdrawal: uint256 = self._withdrawals[channel]
        if withdrawal & _LOW > taken:
            self._withdrawals[channel] = unsafe_sub(withdrawal, taken)
        elif withdrawal != 0:
            self._withdrawals[channel] = 0
    return (taken, empty_now)


@internal
def _take_out(channel: bytes32, amount: uint256) -> (uint256, bool):
    """
    @dev Lowers a channel's balance by `amount`, at most by what is unclaimed.
    """
    state: uint256 = self._channels[channel]
    taken: uint256 = min(amount, (state & _LOW) - (state >> 128))
    left: uint256 = unsafe_sub(state, taken)
    self._channels[channel] = left
    return (taken, left == 0)


@internal
@pure
def _halves(word: uint256) -> (uint128, uint128):
    """
    @dev The two numbers in a word.
    """
    return (convert(word & _LOW, uint128), convert(word >> 128, uint128))
