# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Upgradable dollar, the implementation, for gas figures
@license AGPL-3.0-only
@notice Checks a pause flag and a blacklist on every transfer. The blacklist is
        the top bit of a balance, so only the spender's check takes a slot that
        the transfer does not touch anyway. No permit: only figures need this.
@dev Called by delegation; the first two slots are the proxy's.
"""


event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256


event Approval:
    owner: indexed(address)
    spender: indexed(address)
    amount: uint256


BLACKLISTED: constant(uint256) = 2**255

implementation: address
administrator: address
paused: public(bool)
balances: HashMap[address, uint256]
allowance: public(HashMap[address, HashMap[address, uint256]])


@external
@view
def balanceOf(account: address) -> uint256:
    return self.balances[account] & ~BLACKLISTED


@external
def mint(receiver: address, amount: uint256):
    self.balances[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, amount=amount)


@external
def approve(spender: address, amount: uint256) -> bool:
    self._check(msg.sender)
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, amount=amount)
    return True


@external
def transfer(receiver: address, amount: uint256) -> bool:
    self._move(msg.sender, receiver, amount)
    return True


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    self._check(msg.sender)
    allowed: uint256 = self.allowance[owner][msg.sender]
    if allowed != max_value(uint256):
        self.allowance[owner][msg.sender] = allowed - amount
    self._move(owner, receiver, amount)
    return True


@internal
@view
def _check(account: address):
    assert not self.paused, "dollar: paused"
    assert (
        self.balances[account] < BLACKLISTED
    ), "dollar: account is blacklisted"


@internal
def _move(sender: address, receiver: address, amount: uint256):
    self._check(sender)
    self._check(receiver)
    self.balances[sender] -= amount
    self.balances[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, amount=amount)
