# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Stake pools: active and unbonding TPF, and who owns how much
@license AGPL-3.0-only
@notice Invariants:
        I-2  shares become a ticket at any time, and a ticket becomes TPF after
             its time; neither asks anybody;
        I-4  a slash is pro rata over active and unbonding shares; a seizure
             touches the owner's shares alone;
        I-12 every rounding is against who moves, and is at most one wei: a share
             never costs more (see shares);
        I-13 a reward reaches all active shares alike. What the virtual shares would
             take of it goes to the payout address: a millionth at most, and 1,000
             wei at most, since shares that are fewer than a pool's wei are
             multiplied before.
@dev A rebase starts a generation (see generations). An account's word names the
     generation in which it was written, and is carried through the later ones one
     by one, in their order, since dividing rounds down. The owner's part stands in
     the pool's own word and moves with it.

     Words packed by hand, low bits first:
     assets   active 96 | locked 96 | hold 64 (of holds; 0 for none)
     shares   active 128 | owner's part of them 128
     leaving  unbonding assets 128 | unbonding shares 128
     account  active shares 128 | generation 32 | tickets 96
     ticket   unbonding shares 128 | generation 32 | ready at 64
"""

from . import generations
from . import shares

initializes: generations

MASK_96: constant(uint256) = 2**96 - 1
LOCKED_AT: constant(uint256) = 96
HOLD_AT: constant(uint256) = 192

assets: HashMap[address, uint256]
active_shares: HashMap[address, uint256]
leaving: HashMap[address, uint256]
# provider -> account
accounts: HashMap[address, HashMap[address, uint256]]
# provider -> account -> number
tickets: HashMap[address, HashMap[address, HashMap[uint256, uint256]]]


@deploy
def __init__():
    generations.__init__()


# ------------------------------------------------------------- internal: in and out


@internal
def _deposit(provider: address, account: address, amount: uint256) -> uint256:
    """
    @dev Makes TPF active stake of an account.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    @param amount TPF wei, not 0.
    @return Shares received: at least as many as wei.
    """
    active: uint256 = 0
    locked: uint256 = 0
    total: uint256 = 0
    owned: uint256 = 0
    active, locked, total, owned = self._read(provider)
    received: uint256 = shares._to_shares(amount, active, total)
    if account == provider:
        owned += received
    else:
        self._write_account(
            provider,
            account,
            self._shares_of(provider, account) + received,
            self._ticket_count(provider, account),
        )
    self._write(provider, active + amount, locked, total + received, owned)
    return received


@internal
def _leave(
    provider: address, account: address, amount: uint256, ready_at: uint256
) -> (uint256, uint256):
    """
    @dev Makes active shares an unbonding ticket. The owner keeps what is locked
         (I-3); nobody else is asked for anything (I-2).
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    @param amount Active shares.
    @param ready_at Time from which the ticket pays, unix seconds.
    @return Number of the ticket, TPF wei in it.
    """
    active: uint256 = 0
    locked: uint256 = 0
    total: uint256 = 0
    owned: uint256 = 0
    active, locked, total, owned = self._read(provider)
    held: uint256 = self._shares_of(provider, account)
    assert amount > 0 and amount <= held, "staking: not that many shares"
    held -= amount
    moved: uint256 = shares._to_assets(amount, active, total)
    active -= moved
    total -= amount
    if account == provider:
        owned = held
        held = 0
        assert (
            shares._to_assets(owned, active, total) >= locked
        ), "staking: stake is locked"
    number: uint256 = self._ticket_count(provider, account)
    self._write_account(provider, account, held, number + 1)
    self._write(provider, active, locked, total, owned)

    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = self._leaving(provider)
    received: uint256 = shares._to_shares(moved, leaving, leaving_shares)
    self.leaving[provider] = shares._pack(
        leaving + moved, leaving_shares + received
    )
    self.tickets[provider][account][number] = (
        received
        | ((generations.ages[provider] >> 160) << 128)
        | (ready_at << 160)
    )
    return number, moved


@internal
def _cash(provider: address, account: address, number: uint256) -> uint256:
    """
    @dev Takes a ticket out of the pool once its time has come.
    @param provider The provider's owner address.
    @param account Whose ticket.
    @param number The ticket.
    @return TPF wei; 0 if all was slashed meanwhile.
    """
    amount: uint256 = 0
    paid: uint256 = 0
    ready_at: uint256 = 0
    amount, paid, ready_at = self._ticket(provider, account, number)
    assert ready_at != 0, "staking: no such ticket"
    assert block.timestamp >= ready_at, "staking: still unbonding"
    self.tickets[provider][account][number] = 0
    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = self._leaving(provider)
    self.leaving[provider] = shares._pack(
        leaving - paid, leaving_shares - amount
    )
    return paid


# -------------------------------------------------- internal: locks, faults, rewards


@internal
def _set_locked(provider: address, locked: uint256):
    """
    @dev Writes down how much of the owner's stake is locked.
    @param provider The provider's owner address.
    @param locked TPF wei.
    """
    self._write_assets(provider, self.assets[provider] & MASK_96, locked)


@internal
def _set_hold(provider: address, hold: uint256):
    """
    @dev Writes a hold down. It stands in the word of the pool that every settlement
         writes anyway.
    @param provider The provider's owner address.
    @param hold 64 bits; 0 ends it.
    """
    self.assets[provider] = (self.assets[provider] & (2**HOLD_AT - 1)) | (
        hold << HOLD_AT
    )


@internal
def _seize(provider: address, wanted: uint256) -> uint256:
    """
    @dev Takes TPF out of the owner's shares, rounded against the owner: delegators
         never pay for it (I-4).
    @param provider The provider's owner address.
    @param wanted TPF wei.
    @return TPF wei taken, at most what the owner has.
    """
    active: uint256 = 0
    locked: uint256 = 0
    total: uint256 = 0
    owned: uint256 = 0
    active, locked, total, owned = self._read(provider)
    taken: uint256 = min(wanted, shares._to_assets(owned, active, total))
    gone: uint256 = shares._to_burn(taken, active, total)
    self._write(provider, active - taken, locked, total - gone, owned - gone)
    generations._add_seized(provider, taken)
    return taken


@internal
def _slash(provider: address, wanted: uint256) -> (uint256, uint256):
    """
    @dev Takes TPF pro rata from every active and unbonding share (I-4). Shares that
         are too many for what is left are divided.
    @param provider The provider's owner address.
    @param wanted TPF wei.
    @return TPF wei taken from active and from unbonding stake, together at most
            the pool.
    """
    active: uint256 = 0
    locked: uint256 = 0
    total: uint256 = 0
    owned: uint256 = 0
    active, locked, total, owned = self._read(provider)
    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = self._leaving(provider)
    if active + leaving == 0:
        return 0, 0
    taken: uint256 = min(wanted, active + leaving)
    from_leaving: uint256 = taken * leaving // (active + leaving)
    from_active: uint256 = taken - from_leaving
    active -= from_active
    leaving -= from_leaving

    divisions: uint256 = shares._divisions(active, total)
    self._write(
        provider,
        active,
        locked,
        shares._divided(total, divisions),
        shares._divided(owned, divisions),
    )
    divisions_leaving: uint256 = shares._divisions(leaving, leaving_shares)
    self.leaving[provider] = shares._pack(
        leaving, shares._divided(leaving_shares, divisions_leaving)
    )
    generations._begin(provider, divisions, divisions_leaving)
    return from_active, from_leaving


@internal
def _reward(provider: address, amount: uint256) -> uint256:
    """
    @dev Raises what all active shares are worth. First shares that are few, or
         fewer than the pool's wei, are multiplied, so that neither rounding nor the
         virtual shares take more than next to nothing of it (I-13).
    @param provider The provider's owner address.
    @param amount TPF wei.
    @return TPF wei left over: what the virtual shares would take, and all without
            shares.
    """
    active: uint256 = 0
    locked: uint256 = 0
    total: uint256 = 0
    owned: uint256 = 0
    active, locked, total, owned = self._read(provider)
    if amount == 0 or total == 0:
        return amount
    times: uint256 = shares._multiplications(active + amount, total)
    if times > 0:
        factor: uint256 = shares.REBASE**times
        total *= factor
        owned *= factor
        generations._multiply(provider, times)
        self.active_shares[provider] = shares._pack(total, owned)
    kept: uint256 = (
        amount * shares.VIRTUAL_SHARES // (total + shares.VIRTUAL_SHARES)
    )
    self._write_assets(provider, active + amount - kept, locked)
    return kept


# ----------------------------------------------------------------- internal: reading


@internal
@view
def _read(provider: address) -> (uint256, uint256, uint256, uint256):
    """
    @dev The active part of a pool.
    @param provider The provider's owner address.
    @return TPF wei, those of the owner's that are locked, shares, the owner's part.
    """
    active: uint256 = 0
    locked: uint256 = 0
    active, locked = self._assets(provider)
    owned: uint256 = self.active_shares[provider]
    return active, locked, owned & shares.MASK, owned >> 128


@internal
@view
def _hold_of(provider: address) -> uint256:
    """
    @dev What `_set_hold` has written.
    @param provider The provider's owner address.
    @return 64 bits; 0 if there is none.
    """
    return self.assets[provider] >> HOLD_AT


@internal
@view
def _stake_of(provider: address) -> (uint256, uint256):
    """
    @dev Active stake, and what was ever seized.
    @param provider The provider's owner address.
    @return TPF wei, TPF wei.
    """
    return (
        self.assets[provider] & MASK_96,
        generations.ages[provider] & shares.MASK,
    )


@internal
@view
def _assets(provider: address) -> (uint256, uint256):
    """
    @dev Active stake, and how much of the owner's is locked.
    @param provider The provider's owner address.
    @return TPF wei, TPF wei.
    """
    word: uint256 = self.assets[provider]
    return word & MASK_96, (word >> LOCKED_AT) & MASK_96


@internal
@view
def _shares_of(provider: address, account: address) -> uint256:
    """
    @dev Active shares of an account in the present generation.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    @return Shares. The sum over all accounts never exceeds the pool's.
    """
    if account == provider:
        return self.active_shares[provider] >> 128
    word: uint256 = self.accounts[provider][account]
    held: uint256 = word & shares.MASK
    bits: uint256 = 0
    written: uint256 = (word >> 128) & generations.MASK_32
    for generation: uint256 in range(
        written,
        (generations.ages[provider] >> 128) & generations.MASK_32,
        bound=generations.MAX_GENERATIONS,
    ):
        # Nothing stays nothing: also what was never written.
        if held == 0:
            break
        place: uint256 = generation % 256
        if generation == written or place == 0:
            bits = generations.multiplied[provider][generation // 256]
        if (bits >> place) & 1 == 1:
            held *= shares.REBASE
        else:
            held //= shares.REBASE
    return held


@internal
@view
def _assets_of(provider: address, account: address) -> uint256:
    """
    @dev What the active shares of an account are worth.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    @return TPF wei.
    """
    return shares._to_assets(
        self._shares_of(provider, account),
        self.assets[provider] & MASK_96,
        self.active_shares[provider] & shares.MASK,
    )


@internal
@view
def _leaving(provider: address) -> (uint256, uint256):
    """
    @dev The unbonding part of a pool.
    @param provider The provider's owner address.
    @return TPF wei, unbonding shares.
    """
    return shares._unpack(self.leaving[provider])


@internal
@view
def _ticket_count(provider: address, account: address) -> uint256:
    """
    @dev How many tickets an account ever had.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    @return The number of its next ticket.
    """
    return self.accounts[provider][account] >> 160


@internal
@view
def _ticket(
    provider: address, account: address, number: uint256
) -> (uint256, uint256, uint256):
    """
    @dev An unbonding ticket.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself.
    @param number The ticket.
    @return Unbonding shares, TPF wei they are worth now, time from which they pay; all
            0 if there is none.
    """
    word: uint256 = self.tickets[provider][account][number]
    leaving: uint256 = 0
    leaving_shares: uint256 = 0
    leaving, leaving_shares = self._leaving(provider)
    amount: uint256 = generations._unbonding(provider, word)
    return (
        amount,
        shares._to_assets(amount, leaving, leaving_shares),
        word >> 160,
    )


# ----------------------------------------------------------------- internal: writing


@internal
def _write_account(
    provider: address, account: address, held: uint256, ticket_number: uint256
):
    """
    @dev Writes an account down in the present generation.
    @param provider The provider's owner address.
    @param account The delegator, or the owner itself (for its tickets alone).
    @param held Active shares.
    @param ticket_number Number of its next ticket.
    """
    # At most the shares of the pool, which have 128 bits.
    self.accounts[provider][account] = (
        held
        | (((generations.ages[provider] >> 128) & generations.MASK_32) << 128)
        | (ticket_number << 160)
    )


@internal
def _write(
    provider: address,
    active: uint256,
    locked: uint256,
    total: uint256,
    owned: uint256,
):
    """
    @dev Writes the active part of a pool down.
    @param provider The provider's owner address.
    @param active TPF wei.
    @param locked TPF wei of the owner's that are locked.
    @param total Shares.
    @param owned The owner's part of them.
    """
    self._write_assets(provider, active, locked)
    self.active_shares[provider] = shares._pack(total, owned)


@internal
def _write_assets(provider: address, active: uint256, locked: uint256):
    """
    @dev Writes the assets of a pool down; its hold stays.
    @param provider The provider's owner address.
    @param active TPF wei.
    @param locked TPF wei of the owner's that are locked.
    """
    # Without a reason, which takes room: TPF has less than 2**96 wei together. What is
    # locked was active when it was locked.
    assert active <= MASK_96
    self.assets[provider] = (
        active
        | (locked << LOCKED_AT)
        | (self.assets[provider] >> HOLD_AT << HOLD_AT)
    )
