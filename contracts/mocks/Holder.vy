# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title A manager that holds, settles and rewards as its caller says, for tests
@license AGPL-3.0-only
@dev It stands in for Benchmark and Emissions together, and is the minter.
"""

from ..interfaces import IMintable
from ..interfaces import IStaking


# What it does when it is asked to settle.
flag Manner:
    PAY  # pays what is due, and nothing if nothing is
    FREE  # ends its hold
    REVERT  # refuses
    EAT  # uses up all gas
    IDLE  # does nothing
    CALL  # calls Staking with `data`, then pays

STAKING: immutable(IStaking)
TOKEN: immutable(IMintable)

manner: public(Manner)
due: public(HashMap[address, uint256])
data: Bytes[1_024]
asked: public(uint256)
succeeded: public(bool)


@deploy
def __init__(staking: IStaking, token: IMintable):
    STAKING = staking
    TOKEN = token
    self.manner = Manner.PAY


@external
def set_manner(manner: Manner, data: Bytes[1_024] = b""):
    """
    @notice Says what `settle` does from now on.
    @param manner One of the manners.
    @param data Calldata for Staking, for CALL.
    """
    self.manner = manner
    self.data = data


@external
def owe(provider: address, amount: uint256):
    """
    @notice Says what the next settlement pays.
    @param provider The provider's owner address.
    @param amount TPF wei.
    """
    self.due[provider] = amount


@external
def settle(provider: address):
    """
    @notice What Staking calls.
    @param provider The provider's owner address.
    """
    self.asked += 1
    if self.manner == Manner.FREE:
        extcall STAKING.free(provider)
    elif self.manner == Manner.REVERT:
        raise "holder: not now"
    elif self.manner == Manner.EAT:
        # Never ends but by using up all gas.
        for i: uint256 in range(1_000_000_000):
            self.asked += i
    elif self.manner == Manner.CALL:
        self.succeeded = raw_call(
            STAKING.address, self.data, revert_on_failure=False
        )
    if self.manner == Manner.PAY or self.manner == Manner.CALL:
        self._reward(provider, self.due[provider])
        self.due[provider] = 0


@external
def reward(provider: address, amount: uint256):
    """
    @notice Mints a reward and pays it.
    @param provider The provider's owner address.
    @param amount TPF wei.
    """
    self._reward(provider, amount)


@external
def credit(provider: address, amount: uint256):
    """
    @notice Mints TPF and credits it.
    @param provider The provider's owner address.
    @param amount TPF wei.
    """
    extcall TOKEN.mint(STAKING.address, amount)
    extcall STAKING.credit(provider, amount)


@external
def hold(operator: address) -> (address, uint256, uint256):
    """
    @notice Holds a provider.
    @param operator Its operator key.
    @return What Staking returns.
    """
    return extcall STAKING.hold(operator)


@external
def free(provider: address):
    """
    @notice Ends a hold.
    @param provider The provider's owner address.
    """
    extcall STAKING.free(provider)


@external
def slash(provider: address, id: bytes32, amount: uint256) -> uint256:
    """
    @notice Slashes.
    @param provider The provider's owner address.
    @param id A lock.
    @param amount TPF wei.
    @return What Staking returns.
    """
    return extcall STAKING.slash(provider, id, amount)


@external
def lock(
    operator: address, id: bytes32, amount: uint256, expires_at: uint256
) -> (address, uint256):
    """
    @notice Locks.
    @param operator The operator key.
    @param id The lock.
    @param amount TPF wei.
    @param expires_at Unix seconds.
    @return What Staking returns.
    """
    return extcall STAKING.lock(operator, id, amount, expires_at, 0)


@internal
def _reward(provider: address, amount: uint256):
    if amount > 0:
        extcall TOKEN.mint(STAKING.address, amount)
    extcall STAKING.reward(provider, amount)
