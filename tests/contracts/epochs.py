# SPDX-License-Identifier: Apache-2.0
"""What the tests of Emissions need of epochs: real ones, and ones with numbers set by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

import boa

from tests.contracts import proofs
from tests.contracts.actions import Provider
from tests.contracts.deploy import (
    REWARD,
    Contract,
    Parameters,
    Suite,
    deploy_emissions,
    deploy_suite,
)

# In the place of Benchmark: any epoch, any shares, however large.
NUMBERS = """
# pragma version 0.4.3
struct Share:
    score: uint256
    stake: uint256
    scores: uint256
    stakes: uint256

current_epoch: public(uint256)
shares: HashMap[address, HashMap[uint256, Share]]

@external
def go_to(epoch: uint256):
    self.current_epoch = epoch

@external
def set_share(
    provider: address, epoch: uint256, score: uint256, stake: uint256,
    scores: uint256, stakes: uint256
):
    self.shares[provider][epoch] = Share(score=score, stake=stake, scores=scores, stakes=stakes)

@external
@view
def epoch_start(epoch: uint256) -> uint256:
    return epoch * 86_400

@external
@view
def share_of(provider: address, epoch: uint256) -> (uint256, uint256, uint256, uint256):
    share: Share = self.shares[provider][epoch]
    return share.score, share.stake, share.scores, share.stakes
"""


@cache
def _numbers_deployer() -> Any:
    return boa.loads_partial(NUMBERS)


def deploy_by_hand(parameters: Parameters | None = None) -> tuple[Suite, Contract, Contract]:
    """The suite, Emissions, and the contract in which a test sets epochs and shares."""
    p = parameters or Parameters()
    suite = deploy_suite(p, sealed=False)
    numbers = _numbers_deployer().deploy()
    emissions = deploy_emissions(suite.token, suite.staking, numbers, suite.owner, p)
    suite.token.set_minter(emissions.address, sender=suite.deployer)
    suite.staking.setup_manager(emissions.address, REWARD, sender=suite.deployer)
    suite.staking.seal(sender=suite.deployer)
    return suite, emissions, numbers


def live(suite: Suite, rounds: dict[Provider, int]) -> int:
    """Open the current epoch, let providers prove so many rounds, go to the next; its number."""
    epoch = proofs.open_epoch(suite)
    done = {provider: proofs.committed(suite, provider, n) for provider, n in rounds.items()}
    proofs.draw_epoch(suite)
    for provider, work in done.items():
        proofs.show(suite, provider, work)
    proofs.next_epoch(suite)
    return epoch
