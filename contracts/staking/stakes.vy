# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What holders of stake call: in, waiting, and out
@license AGPL-3.0-only
@notice Invariants:
        I-2  an entry can be taken back at any time, shares leave by `undelegate`
             and, UNBONDING later, by `withdraw_unbonded`; nobody can stop either;
        I-12 no call here moves anything from one holder to another;
        I-13 stake that comes while the provider's epoch is not settled waits as an
             entry: it is not in the pool, earns nothing of that epoch and answers
             for nothing of it. Every call settles first, so a reward that is due is
             paid to whoever was there before.
"""

from . import holds
from . import managers
from . import pools
from . import registry
from . import vault
from ..interfaces import IStaking

uses: holds
uses: managers
uses: pools
uses: registry
uses: vault

# provider -> account -> TPF wei that wait
entries: HashMap[address, HashMap[address, uint256]]


@deploy
def __init__():
    pass


@external
def delegate(provider: address, amount: uint256) -> uint256:
    """
    @notice Adds stake behind a provider; an owner stakes by naming itself. While
            the provider is unsettled, the stake waits as an entry.
    @param provider The provider's owner address.
    @param amount TPF wei, pulled from the caller.
    @return Shares received; 0 if it became an entry.
    """
    return self._delegate(provider, amount)


@external
def delegate_with_permit(
    provider: address,
    amount: uint256,
    deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
) -> uint256:
    """
    @notice `delegate` with an EIP-2612 permit in place of an allowance.
    @param provider The provider's owner address.
    @param amount TPF wei, pulled from the caller.
    @param deadline Last second at which the permit is accepted.
    @param v Signature.
    @param r Signature.
    @param s Signature.
    @return Shares received; 0 if it became an entry.
    """
    vault._permit(amount, deadline, v, r, s)
    return self._delegate(provider, amount)


@external
def activate(provider: address, account: address) -> uint256:
    """
    @notice Makes an entry active stake, once the provider is settled. Anyone may
            call it.
    @param provider The provider's owner address.
    @param account Whose entry.
    @return Shares received.
    """
    holds._settle(provider)
    assert not holds._is_unsettled(provider), "staking: epoch is unsettled"
    amount: uint256 = self._take(provider, account)
    received: uint256 = pools._deposit(provider, account, amount)
    log IStaking.Activated(
        provider=provider, account=account, assets=amount, shares=received
    )
    return received


@external
def take_back(provider: address, receiver: address = msg.sender) -> uint256:
    """
    @notice Pays out the caller's whole entry, at any time.
    @param provider The provider's owner address.
    @param receiver Receives the TPF.
    @return TPF wei.
    """
    amount: uint256 = self._take(provider, msg.sender)
    log IStaking.TakenBack(
        provider=provider, account=msg.sender, receiver=receiver, assets=amount
    )
    vault._push(receiver, amount)
    return amount


@external
def undelegate(provider: address, amount: uint256) -> uint256:
    """
    @notice Moves stake from active to unbonding: it earns nothing any more, and
            can still be slashed until it is withdrawn. A reward that is due is paid
            first; one of an epoch that is not over is given up.
    @param provider The provider's owner address.
    @param amount Active shares of the caller, as many as it has once that is paid;
           2**256 - 1 means all of them.
    @return Number of the ticket that `withdraw_unbonded` takes.
    """
    holds._settle(provider)
    registry._check(provider)
    leaving: uint256 = amount
    # The reward may have multiplied them: nobody can name all of them beforehand.
    if amount == max_value(uint256):
        leaving = pools._shares_of(provider, msg.sender)
    ready_at: uint256 = block.timestamp + managers.UNBONDING
    number: uint256 = 0
    moved: uint256 = 0
    number, moved = pools._leave(provider, msg.sender, leaving, ready_at)
    log IStaking.Undelegated(
        provider=provider,
        account=msg.sender,
        ticket=number,
        assets=moved,
        shares=leaving,
        ready_at=ready_at,
    )
    return number


@external
def withdraw_unbonded(
    provider: address, number: uint256, receiver: address = msg.sender
) -> uint256:
    """
    @notice Pays out a ticket, UNBONDING after `undelegate`.
    @param provider The provider's owner address.
    @param number The ticket.
    @param receiver Receives the TPF.
    @return TPF wei; 0 if all was slashed meanwhile.
    """
    paid: uint256 = pools._cash(provider, msg.sender, number)
    log IStaking.Unbonded(
        provider=provider,
        account=msg.sender,
        receiver=receiver,
        ticket=number,
        assets=paid,
    )
    if paid > 0:
        vault._push(receiver, paid)
    return paid


@external
@view
def entry_of(provider: address, account: address) -> uint256:
    """
    @notice Returns the TPF wei of an account that wait.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    """
    return self.entries[provider][account]


@internal
def _delegate(provider: address, amount: uint256) -> uint256:
    """
    @dev Takes the caller's TPF as active stake, or as an entry.
    @param provider The provider's owner address.
    @param amount TPF wei.
    @return Shares received; 0 if it became an entry.
    """
    holds._settle(provider)
    assert managers.sealed, "staking: not sealed"
    registry._check(provider)
    assert amount > 0, "staking: amount too small"
    received: uint256 = 0
    if holds._is_unsettled(provider):
        self.entries[provider][msg.sender] += amount
        log IStaking.Entered(
            provider=provider, account=msg.sender, assets=amount
        )
    else:
        received = pools._deposit(provider, msg.sender, amount)
        log IStaking.Delegated(
            provider=provider,
            account=msg.sender,
            assets=amount,
            shares=received,
        )
    vault._pull(amount)
    return received


@internal
def _take(provider: address, account: address) -> uint256:
    """
    @dev Empties an entry.
    @param provider The provider's owner address.
    @param account Whose entry.
    @return TPF wei.
    """
    amount: uint256 = self.entries[provider][account]
    assert amount > 0, "staking: no entry"
    self.entries[provider][account] = 0
    return amount
