# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Token that returns nothing and blocks accounts, for tests
@license AGPL-3.0-only
@notice Transfers answer nothing, as some old tokens do; on demand they answer
        `false` and move nothing.
"""

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
blocked: public(HashMap[address, bool])
refuses: public(bool)


@external
def mint(receiver: address, amount: uint256):
    """
    @notice Creates tokens.
    @param receiver Receives the tokens.
    @param amount Tokens.
    """
    self.balanceOf[receiver] += amount


@external
def block_account(account: address):
    """
    @notice Lets an account neither send nor receive.
    @param account The account.
    """
    self.blocked[account] = True


@external
def answer_false(on: bool):
    """
    @notice Makes transfers answer `false` and move nothing.
    @param on Whether.
    """
    self.refuses = on


@external
def approve(spender: address, amount: uint256):
    """
    @notice Sets an allowance.
    @param spender May spend.
    @param amount Tokens.
    """
    self.allowance[msg.sender][spender] = amount


@external
@raw_return
def transfer(receiver: address, amount: uint256) -> Bytes[32]:
    """
    @notice Moves tokens.
    @param receiver Receives the tokens.
    @param amount Tokens.
    """
    return self._move(msg.sender, receiver, amount)


@external
@raw_return
def transferFrom(
    sender: address, receiver: address, amount: uint256
) -> Bytes[32]:
    """
    @notice Moves tokens against an allowance.
    @param sender Sends the tokens.
    @param receiver Receives the tokens.
    @param amount Tokens.
    """
    if not self.refuses:
        self.allowance[sender][msg.sender] -= amount
    return self._move(sender, receiver, amount)


@internal
def _move(sender: address, receiver: address, amount: uint256) -> Bytes[32]:
    if self.refuses:
        return abi_encode(False)
    assert not self.blocked[sender], "silent token: blocked"
    assert not self.blocked[receiver], "silent token: blocked"
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    return b""
