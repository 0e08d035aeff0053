# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title What the chain keeps of a job
@license AGPL-3.0-only
@notice One word a job, as job_terms has it. A job that ends is not forgotten: its
        word says how, so that nothing is posted, paid or refunded twice (I-5).
@dev The using contract reads the words where they are, and decides what follows
     what (I-10); it writes by `_write` alone.
"""

from ..interfaces import IJobs
from . import auction
from . import job_terms

# In one reading.
MOST_JOBS: constant(uint256) = 64

state: public(HashMap[bytes32, uint256])


@deploy
def __init__():
    pass


@external
@view
def status(job: bytes32) -> uint256:
    """
    @notice Returns a job's status: 0 none, 1 open, 2 assigned, 3 attested,
            4 settled, 5 cancelled, 6 expired, 7 refused, 8 disputed, 9 refunded.
    @param job The job's id.
    """
    return job_terms._status(self.state[job])


@external
@view
def states(jobs: DynArray[bytes32, MOST_JOBS]) -> DynArray[uint256, MOST_JOBS]:
    """
    @notice Returns the words of many jobs: what `state` says of each.
    @param jobs Their ids.
    @return Their words in the same order, 0 for a job that there is not.
    """
    words: DynArray[uint256, MOST_JOBS] = []
    for job: bytes32 in jobs:
        words.append(self.state[job])
    return words


@internal
def _write(job: bytes32, word: uint256):
    """
    @dev Keeps the word of a job.
    """
    self.state[job] = word


@internal
@view
def _word(job: bytes32) -> uint256:
    """
    @dev A job's word.
    """
    return self.state[job]


@internal
@view
def _recorded(
    terms: IJobs.Terms, record: IJobs.Record, status: uint256
) -> (bytes32, uint256):
    """
    @dev The id of an attested or a disputed job and the price at which it was taken;
         reverts unless it has that status and this is its record.
    """
    job: bytes32 = keccak256(abi_encode(terms))
    word: uint256 = self.state[job]
    assert job_terms._status(word) == status, "jobs: not attested"
    # Hashed in place, as every settlement comes through here.
    assert word == (
        (convert(keccak256(abi_encode(record)), uint256) & ~(2**8 - 1))
        | status
    ), "jobs: not the attested record"
    return job, auction._price(
        terms.order.start_price,
        terms.order.max_price,
        convert(terms.order.auction, uint256),
        convert(record.assigned_at, uint256)
        - convert(terms.posted_at, uint256)
        - convert(record.paused, uint256),
    )
