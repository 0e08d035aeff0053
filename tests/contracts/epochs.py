# SPDX-License-Identifier: Apache-2.0
"""What the tests of Emissions need of epochs: real ones, and ones with numbers set by hand."""

from __future__ import annotations

from tests.contracts import proofs
from tests.contracts.actions import Provider, now, pass_time
from tests.contracts.deploy import (
    DAY,
    REWARD,
    Contract,
    Parameters,
    Suite,
    deploy_emissions,
    deploy_suite,
    deployer_of,
)


def deploy_by_hand(parameters: Parameters | None = None) -> tuple[Suite, Contract, Contract]:
    """The suite, Emissions, and the contract in which a test sets epochs and results."""
    p = parameters or Parameters()
    suite = deploy_suite(p, sealed=False)
    by_hand = deployer_of("mocks/Epochs").deploy(now())
    emissions = deploy_emissions(suite.token, suite.staking, by_hand, suite.owner, p)
    suite.token.set_minter(emissions.address, sender=suite.deployer)
    suite.staking.setup_manager(emissions.address, REWARD, sender=suite.deployer)
    suite.staking.seal(sender=suite.deployer)
    return suite, emissions, by_hand


def run_epoch(by_hand: Contract, seconds: int = DAY, length: int = 3_600) -> int:
    """Open an epoch `seconds` later, let it end after `length`; its number."""
    pass_time(seconds)
    opened_at = now()
    pass_time(length)
    return int(by_hand.open_epoch(opened_at, opened_at + length))


def live(suite: Suite, rounds: dict[Provider, int]) -> int:
    """Open the current epoch, let providers prove their rounds, go to the next; its number."""
    epoch = proofs.open_epoch(suite)
    done = {provider: proofs.committed(suite, provider, n) for provider, n in rounds.items()}
    proofs.draw_epoch(suite)
    for provider, work in done.items():
        proofs.show(suite, provider, work)
    proofs.next_epoch(suite)
    return epoch
