# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Epochs and results set by hand, for tests: any times, any numbers
@license AGPL-3.0-only
@notice Stands where Benchmark does for Emissions.
"""

from ..interfaces import IBenchmark

implements: IBenchmark


struct Result:
    epoch: uint256
    score: uint256
    effective: uint256
    stake: uint256
    due: bool


GENESIS: public(uint256)
current_epoch: public(uint256)
epochs: HashMap[uint256, IBenchmark.Epoch]
totals: HashMap[uint256, uint256]
results: HashMap[address, Result]


@deploy
def __init__(genesis: uint256):
    """
    @notice Fixes the genesis.
    @param genesis Unix seconds.
    """
    self.GENESIS = genesis


@external
def open_epoch(opened_at: uint256, ends_at: uint256) -> uint256:
    """
    @notice Opens the next epoch.
    @param opened_at Unix seconds.
    @param ends_at Unix seconds.
    @return Its number.
    """
    epoch: uint256 = self.current_epoch + 1
    self.current_epoch = epoch
    self.epochs[epoch].opened_at = opened_at
    self.epochs[epoch].ends_at = ends_at
    return epoch


@external
def set_result(
    provider: address,
    epoch: uint256,
    score: uint256,
    effective: uint256,
    stake: uint256,
    total: uint256,
):
    """
    @notice Sets what a provider's newest epoch came to.
    @param provider The provider's owner address.
    @param epoch The epoch.
    @param score Operations per second.
    @param effective Operations per second.
    @param stake TPF wei that counts now.
    @param total Effective scores of the epoch, all together.
    """
    self.results[provider] = Result(
        epoch=epoch, score=score, effective=effective, stake=stake, due=True
    )
    self.totals[epoch] = total


@external
@view
def epoch_of(epoch: uint256) -> IBenchmark.Epoch:
    """
    @notice Returns what was set of an epoch.
    @param epoch The epoch.
    """
    return self.epochs[epoch]


@external
@view
def share_of(provider: address, epoch: uint256) -> (uint256, uint256, uint256):
    """
    @notice Returns what was set for a provider's newest epoch.
    @param provider The provider's owner address.
    @param epoch The epoch.
    """
    result: Result = self.results[provider]
    if result.epoch != epoch:
        return 0, 0, self.totals[epoch]
    return result.score, result.effective, self.totals[epoch]


@external
@view
def proof_of(provider: address) -> IBenchmark.Proof:
    """
    @notice Returns what was set for a provider's newest epoch.
    @param provider The provider's owner address.
    """
    result: Result = self.results[provider]
    return IBenchmark.Proof(
        epoch=result.epoch,
        rounds=1,
        commitment=empty(bytes32),
        verified=1,
        stake=result.stake,
        bond_until=0,
        settled=not result.due,
    )


@external
def settle(provider: address):
    """
    @notice Does nothing.
    @param provider The provider's owner address.
    """
    pass


@external
def take(provider: address) -> IBenchmark.Due:
    """
    @notice Hands a result out, once.
    @param provider The provider's owner address.
    """
    result: Result = self.results[provider]
    assert result.due, "epochs: nothing due"
    self.results[provider].due = False
    before: uint256 = self.GENESIS
    if result.epoch > 1:
        before = self.epochs[result.epoch - 1].opened_at
    return IBenchmark.Due(
        epoch=result.epoch,
        score=result.effective,
        stake=result.stake,
        total=self.totals[result.epoch],
        opened_at=self.epochs[result.epoch].opened_at,
        opened_before=before,
    )
