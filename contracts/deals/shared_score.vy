# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title One score behind two contracts
@license AGPL-3.0-only
@notice A proven score is sold once: what leases reserve of it is not there for jobs, and
        what jobs reserve is not there for leases. Jobs has this contract for its source
        of scores, which tells what leases leave; here it is asked what it reserves.
@dev So Jobs needs to know nothing of it. Jobs is deployed later, and named once.
"""

from . import eligibility
from ..interfaces import ILeases
from ..interfaces import IReserves

uses: eligibility

DEPLOYER: immutable(address)

# Until it is named, no order can ask for a score.
jobs: public(IReserves)


@deploy
def __init__():
    DEPLOYER = msg.sender


@external
def setup_jobs(jobs: IReserves):
    """
    @notice Names the contract that has this one for its source of scores (the deployer,
            once).
    @param jobs Jobs.
    """
    assert (
        msg.sender == DEPLOYER and self.jobs.address == empty(address)
    ), "leases: not the deployer"
    self.jobs = jobs
    log ILeases.JobsNamed(jobs=jobs.address)


@external
@view
def score(provider: address) -> uint256:
    """
    @notice Returns what a provider has proven and still backs, less what its leases
            reserve.
    @param provider The provider's owner address.
    @return Operations per second.
    """
    if eligibility.SCORES.address == empty(address):
        return 0
    return self._left(provider)


@internal
@view
def _check_can_ask(min_score: uint256):
    """
    @dev Reverts for a minimum score that nobody could ever show.
    """
    assert min_score == 0 or (
        eligibility.SCORES.address != empty(address)
        and self.jobs.address != empty(address)
    ), "eligibility: no source of scores"


@internal
def _reserve(provider: address, min_score: uint256):
    """
    @dev Sets aside a part of a provider's score; reverts if leases and jobs together
         have no more.
    """
    if min_score > 0:
        eligibility._reserve(provider, min_score)
        assert (
            self._left(provider)
            >= staticcall self.jobs.reserved_score(provider)
        ), "eligibility: score too low"


@internal
@view
def _left(provider: address) -> uint256:
    """
    @dev What leases leave of a score: nothing if it has fallen below what they reserve.
    """
    proven: uint256 = staticcall eligibility.SCORES.score(provider)
    return proven - min(proven, eligibility.reserved_score[provider])
