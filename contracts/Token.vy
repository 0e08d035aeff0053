# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title TPF, the stake and reward token
@license AGPL-3.0-only
@notice ERC-20 with permit (EIP-2612) and burn. A genesis supply bootstraps
        staking; all further tokens come from one minter, which is named once,
        in the set-up, and can never change (I-8, I-11). `CAP` bounds everything that was
        ever minted: burned tokens do not come back.
"""

from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.tokens import erc20
from snekmate.tokens.interfaces import IERC20Permit

implements: IERC20
implements: IERC20Detailed
implements: IERC20Permit

initializes: ownable
initializes: erc20[ownable := ownable]

# Left out: `mint`, `set_minter`, `is_minter` (replaced below by a minter that
# is set once and a cap), `burn` and `burn_from` (which count below), `transfer_ownership` and `renounce_ownership` (the
# owner is the timelock from the start).
exports: (
    erc20.IERC20,
    erc20.IERC20Detailed,
    erc20.permit,
    erc20.nonces,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
    erc20.owner,
)


event MinterSet:
    minter: indexed(address)


MASK_160: constant(uint256) = 2**160 - 1
CAP: public(immutable(uint256))
DEPLOYER: public(immutable(address))

# minter 160 | everything ever burned 96
issue: uint256
# What was minted to a receiver in this transaction and not yet taken.
fresh: transient(HashMap[address, uint256])


@deploy
def __init__(
    owner: address,
    cap: uint256,
    genesis_supply: uint256,
    genesis_receiver: address,
):
    """
    @notice Mints the genesis supply.
    @param owner The timelock, which names the minter.
    @param cap Most tokens ever minted, in wei (below 2**96).
    @param genesis_supply Tokens minted now, in wei.
    @param genesis_receiver Receives the genesis supply.
    """
    assert owner != empty(address), "token: zero owner"
    assert cap < 2**96, "token: cap above 96 bits"
    ownable.__init__()
    erc20.__init__("Teraproof", "TPF", 18, "Teraproof", "1")
    ownable._transfer_ownership(owner)
    CAP = cap
    DEPLOYER = msg.sender
    self._mint(genesis_receiver, genesis_supply)


@external
def set_minter(minter: address):
    """
    @notice Names the minter, once, permanently (the deployer while it sets up, or
            the owner).
    @param minter The emissions contract.
    """
    assert msg.sender in [
        DEPLOYER, ownable.owner
    ], "token: caller may not name the minter"
    assert self.issue & MASK_160 == 0, "token: minter is set"
    assert minter != empty(address), "token: zero minter"
    self.issue |= convert(minter, uint256)
    log MinterSet(minter=minter)


@external
@reentrant
def mint(receiver: address, amount: uint256) -> uint256:
    """
    @notice Creates tokens within the cap (minter only). Reentrant, as all of ERC-20 is:
            it calls nobody.
    @param receiver Receives the tokens.
    @param amount Tokens in wei.
    @return Everything that was ever minted, in wei.
    """
    assert (
        convert(msg.sender, uint256) == self.issue & MASK_160
    ), "token: caller is not the minter"
    self.fresh[receiver] += amount
    return self._mint(receiver, amount)


@external
def burn(amount: uint256):
    """
    @notice Destroys tokens of the caller.
    @param amount Tokens in wei.
    """
    self._burn(msg.sender, amount)


@external
def burn_from(owner: address, amount: uint256):
    """
    @notice Destroys tokens against the caller's allowance.
    @param owner Whose tokens.
    @param amount Tokens in wei.
    """
    erc20._spend_allowance(owner, msg.sender, amount)
    self._burn(owner, amount)


@external
@reentrant
def take_minted(amount: uint256):
    """
    @notice Shows the caller that this much was minted to it in this transaction,
            each token once: cheaper than to mint to another and to pull from there.
            Reentrant: it calls nobody.
    @param amount Tokens in wei; reverts if it is more.
    """
    left: uint256 = self.fresh[msg.sender]
    assert left >= amount, "token: not minted to the caller just now"
    self.fresh[msg.sender] = left - amount


@external
@view
def minter() -> address:
    """
    @notice Returns who may mint; zero before it is named.
    """
    return convert(self.issue & MASK_160, address)


@external
@view
def total_minted() -> uint256:
    """
    @notice Returns everything that was ever minted, in wei.
    """
    return self._total_minted()


@internal
@view
def _total_minted() -> uint256:
    """
    @dev What is there and what is gone. Claims mint, faults burn: so mints, of which
         there are more, write one word less.
    """
    return erc20.totalSupply + (self.issue >> 160)


@internal
def _mint(receiver: address, amount: uint256) -> uint256:
    minted: uint256 = self._total_minted()
    assert amount <= CAP - minted, "token: cap exceeded"
    erc20._mint(receiver, amount)
    return minted + amount


@internal
def _burn(owner: address, amount: uint256):
    erc20._burn(owner, amount)
    # At most what was ever minted, which has 96 bits.
    self.issue += amount << 160
