# SPDX-License-Identifier: Apache-2.0
"""Token: a cap, a minter set once, burning, and no way around them."""

from __future__ import annotations

from typing import Any

import boa
import pytest

from tests.contracts.actions import event, permit
from tests.contracts.deploy import (
    TPF,
    ZERO_ADDRESS,
    Contract,
    Suite,
    account_of,
    address_of,
    deployer_of,
)

CAP = 1_000 * TPF
GENESIS = 400 * TPF


@pytest.fixture
def minter() -> str:
    return address_of("minter")


@pytest.fixture
def capped(owner: str) -> Contract:
    """A token of 1,000 TPF at most, 400 of them minted."""
    return deployer_of("Token").deploy(owner, CAP, GENESIS, address_of("faucet"))


@pytest.fixture
def mintable(capped: Contract, minter: str, owner: str) -> Contract:
    capped.set_minter(minter, sender=owner)
    return capped


def test_init__genesis_supply_minted(capped: Contract, owner: str) -> None:
    assert capped.totalSupply() == capped.total_minted() == GENESIS
    assert capped.balanceOf(address_of("faucet")) == GENESIS
    assert capped.owner() == owner
    assert (capped.name(), capped.symbol(), capped.decimals()) == ("Teraproof", "TPF", 18)
    assert capped.CAP() == CAP


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((ZERO_ADDRESS, CAP, GENESIS, "faucet"), "token: zero owner"),
        (("owner", 2**96, GENESIS, "faucet"), "token: cap above 96 bits"),
        (("owner", CAP, CAP + 1, "faucet"), "token: cap exceeded"),
        (("owner", CAP, GENESIS, ZERO_ADDRESS), "erc20: mint to the zero address"),
    ],
)
def test_init__bad_argument__reverts(arguments: Any, reason: str) -> None:
    owner, cap, genesis, receiver = arguments
    owner = owner if owner == ZERO_ADDRESS else address_of(owner)
    receiver = receiver if receiver == ZERO_ADDRESS else address_of(receiver)
    with boa.reverts(reason):
        deployer_of("Token").deploy(owner, cap, genesis, receiver)


def test_init__cap_and_genesis_at_their_bounds(owner: str) -> None:
    largest = 2**96 - 1
    token = deployer_of("Token").deploy(owner, largest, largest, owner)
    assert token.totalSupply() == largest


def test_set_minter__by_owner_once(capped: Contract, minter: str, owner: str) -> None:
    capped.set_minter(minter, sender=owner)
    assert event(capped, "MinterSet") == {"minter": minter}
    assert capped.minter() == minter
    with boa.reverts("token: minter is set"):
        capped.set_minter(address_of("stranger"), sender=owner)


def test_set_minter__zero__reverts(capped: Contract, owner: str) -> None:
    for caller in (owner, capped.DEPLOYER()):
        with boa.reverts("token: zero minter"):
            capped.set_minter(ZERO_ADDRESS, sender=caller)


def test_set_minter__by_the_deployer_once(owner: str, minter: str) -> None:
    """The set-up names the minter before the timelock could."""
    deployer = address_of("deployer")
    with boa.env.prank(deployer):
        token = deployer_of("Token").deploy(owner, CAP, GENESIS, owner)
    assert token.DEPLOYER() == deployer
    token.set_minter(minter, sender=deployer)
    assert event(token, "MinterSet") == {"minter": minter}
    assert token.minter() == minter
    for caller in (deployer, owner):
        with boa.reverts("token: minter is set"):
            token.set_minter(address_of("stranger"), sender=caller)


def test_set_minter__after_the_owner__deployer_cannot(owner: str, minter: str) -> None:
    deployer = address_of("deployer")
    with boa.env.prank(deployer):
        token = deployer_of("Token").deploy(owner, CAP, GENESIS, owner)
    token.set_minter(minter, sender=owner)
    with boa.reverts("token: minter is set"):
        token.set_minter(deployer, sender=deployer)
    assert token.minter() == minter


def test_set_minter__unauthorized__reverts(capped: Contract, minter: str) -> None:
    for caller in (minter, address_of("faucet"), ZERO_ADDRESS):
        with boa.reverts("token: caller may not name the minter"):
            capped.set_minter(minter, sender=caller)


def test_deployer__mints_nothing(suite: Suite) -> None:
    """The right to name the minter is all that the deployer has."""
    token = suite.token
    with boa.reverts("token: caller is not the minter"):
        token.mint(suite.deployer, 1, sender=suite.deployer)


def test_mint__up_to_the_cap(mintable: Contract, minter: str, stranger: str) -> None:
    mintable.mint(stranger, CAP - GENESIS, sender=minter)
    transfer = event(mintable, "Transfer")
    assert list(transfer.values()) == [ZERO_ADDRESS, stranger, CAP - GENESIS]
    assert mintable.balanceOf(stranger) == CAP - GENESIS
    assert mintable.total_minted() == CAP


def test_mint__above_the_cap__reverts(mintable: Contract, minter: str, stranger: str) -> None:
    with boa.reverts("token: cap exceeded"):
        mintable.mint(stranger, CAP - GENESIS + 1, sender=minter)


def test_mint__unauthorized__reverts(mintable: Contract, owner: str, capped: Contract) -> None:
    for caller in (owner, address_of("faucet")):
        with boa.reverts("token: caller is not the minter"):
            mintable.mint(owner, 1, sender=caller)


def test_mint__no_minter_yet__reverts(capped: Contract, owner: str) -> None:
    with boa.reverts("token: caller is not the minter"):
        capped.mint(owner, 1, sender=owner)


def test_burn__does_not_make_room_under_the_cap(
    mintable: Contract, minter: str, stranger: str
) -> None:
    faucet = address_of("faucet")
    mintable.burn(GENESIS, sender=faucet)
    assert mintable.totalSupply() == 0
    assert mintable.total_minted() == GENESIS
    with boa.reverts("token: cap exceeded"):
        mintable.mint(stranger, CAP - GENESIS + 1, sender=minter)


def test_burn__more_than_held__reverts(capped: Contract, stranger: str) -> None:
    with boa.reverts("erc20: burn amount exceeds balance"):
        capped.burn(1, sender=stranger)


def test_burn_from__with_and_without_allowance(capped: Contract, stranger: str) -> None:
    faucet = address_of("faucet")
    with boa.reverts("erc20: insufficient allowance"):
        capped.burn_from(faucet, 1, sender=stranger)
    capped.approve(stranger, 1, sender=faucet)
    capped.burn_from(faucet, 1, sender=stranger)
    assert capped.totalSupply() == GENESIS - 1


def test_permit__sets_the_allowance(capped: Contract, stranger: str) -> None:
    holder = account_of("holder")
    v, r, s = permit(capped, holder, stranger, 5)
    capped.permit(holder.address, stranger, 5, 2**63, v, r, s)
    assert capped.allowance(holder.address, stranger) == 5
    with boa.reverts("erc20: invalid signature"):
        capped.permit(holder.address, stranger, 5, 2**63, v, r, s)


@pytest.mark.parametrize("name", ["is_minter", "transfer_ownership", "renounce_ownership"])
def test_surface__snekmate_roles_are_not_exported(capped: Contract, name: str) -> None:
    assert not hasattr(capped, name)


TAKER = """
# pragma version 0.4.3
interface Token:
    def mint(receiver: address, amount: uint256): nonpayable
    def take_minted(amount: uint256): nonpayable

@external
def mint_and_take(token: Token, receiver: address, minted: uint256, takes: DynArray[uint256, 2]):
    extcall token.mint(receiver, minted)
    for amount: uint256 in takes:
        extcall token.take_minted(amount)

@external
def take(token: Token, amount: uint256):
    extcall token.take_minted(amount)
"""


@pytest.fixture
def taker(capped: Contract, owner: str) -> Contract:
    """A minter that mints and takes in one transaction."""
    contract = boa.loads(TAKER)
    capped.set_minter(contract.address, sender=owner)
    return contract


def test_take_minted__all_in_parts(capped: Contract, taker: Contract) -> None:
    taker.mint_and_take(capped.address, taker.address, 10, [4, 6])
    assert capped.balanceOf(taker.address) == 10


@pytest.mark.parametrize("takes", [[11], [10, 1], [4, 7]])
def test_take_minted__more_than_was_minted__reverts(
    capped: Contract, taker: Contract, takes: Any
) -> None:
    with boa.reverts("token: not minted to the caller just now"):
        taker.mint_and_take(capped.address, taker.address, 10, takes)


def test_take_minted__minted_to_another__reverts(capped: Contract, taker: Contract) -> None:
    with boa.reverts("token: not minted to the caller just now"):
        taker.mint_and_take(capped.address, address_of("stranger"), 10, [1])


def test_take_minted__in_a_later_transaction__reverts(capped: Contract, taker: Contract) -> None:
    taker.mint_and_take(capped.address, taker.address, 10, [])
    # titanoboa keeps transient storage between calls; a node clears it after each transaction.
    boa.env.evm.vm.state.clear_transient_storage()
    with boa.reverts("token: not minted to the caller just now"):
        taker.take(capped.address, 1)
