# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Token that calls back while it moves money, for tests
@license AGPL-3.0-only
@notice Every transfer calls what it was armed with, as itself, and remembers
        whether that worked. Allowances are not kept.
"""

balanceOf: public(HashMap[address, uint256])
tried: public(bool)
succeeded: public(bool)
target: address
data: Bytes[2_048]


@external
def mint(receiver: address, amount: uint256):
    """
    @notice Creates tokens.
    @param receiver Receives the tokens.
    @param amount Tokens.
    """
    self.balanceOf[receiver] += amount


@external
def arm(target: address, data: Bytes[2_048]):
    """
    @notice Sets the call of every later transfer.
    @param target The contract.
    @param data Calldata.
    """
    self.target = target
    self.data = data


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Answers that an allowance was set.
    @param spender May spend.
    @param amount Tokens.
    """
    return True


@external
def transfer(receiver: address, amount: uint256) -> bool:
    """
    @notice Moves tokens and calls back.
    @param receiver Receives the tokens.
    @param amount Tokens.
    """
    return self._move(msg.sender, receiver, amount)


@external
def transferFrom(sender: address, receiver: address, amount: uint256) -> bool:
    """
    @notice Moves tokens and calls back.
    @param sender Sends the tokens.
    @param receiver Receives the tokens.
    @param amount Tokens.
    """
    return self._move(sender, receiver, amount)


@internal
def _move(sender: address, receiver: address, amount: uint256) -> bool:
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    if self.target != empty(address):
        self.tried = True
        if raw_call(self.target, self.data, revert_on_failure=False):
            self.succeeded = True
    return True
