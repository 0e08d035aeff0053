# SPDX-License-Identifier: Apache-2.0
"""Where the commands get their typed reading of the contracts from."""

from provider_agent.chain.contracts import Abi
from teraproof.contracts.benchmark import BenchmarkContract, EpochRecord, ProofRecord
from teraproof.contracts.jobs import (
    Accepted,
    Attested,
    Cancelled,
    Expired,
    JobsContract,
    Posted,
    Refused,
    Settled,
)
from teraproof.contracts.staking import EndpointChanged, Registered, StakingContract
from teraproof.deals import JobEvent

__all__ = [
    "Abi",
    "Accepted",
    "Attested",
    "BenchmarkContract",
    "Cancelled",
    "EndpointChanged",
    "EpochRecord",
    "Expired",
    "JobEvent",
    "JobsContract",
    "Posted",
    "ProofRecord",
    "Refused",
    "Registered",
    "Settled",
    "StakingContract",
]
