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
# is set once and a cap), `transfer_ownership` and `renounce_ownership` (the
# owner is the timelock from the start).
exports: (
    erc20.IERC20,
    erc20.IERC20Detailed,
    erc20.permit,
    erc20.nonces,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
    erc20.burn,
    erc20.burn_from,
    erc20.owner,
)


event MinterSet:
    minter: indexed(address)


CAP: public(immutable(uint256))
DEPLOYER: public(immutable(address))

minter: public(address)
total_minted: public(uint256)


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
    @param cap Most tokens ever minted, in wei (below 2**128).
    @param genesis_supply Tokens minted now, in wei.
    @param genesis_receiver Receives the genesis supply.
    """
    assert owner != empty(address), "token: zero owner"
    assert cap < 2**128, "token: cap above 128 bits"
    ownable.__init__()
    erc20.__init__("Teraproof", "TPF", 18, "Teraproof", "1")
    ownable._transfer_ownership(owner)
    CAP = cap
    DEPLOYER = msg.sender
    self._mint(genesis_receiver, genesis_supply)


@external
def set_minter(minter: address):
    """
    @notice Names the minter, once and for ever (the deployer while it sets up, or
            the owner).
    @param minter The emissions contract.
    """
    assert msg.sender in [
        DEPLOYER, ownable.owner
    ], "token: caller may not name the minter"
    assert self.minter == empty(address), "token: minter is set"
    assert minter != empty(address), "token: zero minter"
    self.minter = minter
    log MinterSet(minter=minter)


@external
def mint(receiver: address, amount: uint256):
    """
    @notice Creates tokens within the cap (minter only).
    @param receiver Receives the tokens.
    @param amount Tokens in wei.
    """
    assert msg.sender == self.minter, "token: caller is not the minter"
    self._mint(receiver, amount)


@internal
def _mint(receiver: address, amount: uint256):
    total: uint256 = self.total_minted + amount
    assert total <= CAP, "token: cap exceeded"
    self.total_minted = total
    erc20._mint(receiver, amount)
