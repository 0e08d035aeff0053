# SPDX-License-Identifier: Apache-2.0
"""Where the commands get their typed reading of the contracts from."""

from provider_agent.chain.contracts import (
    Abi,
    Accepted,
    Attested,
    BenchmarkContract,
    Cancelled,
    EndpointChanged,
    EpochRecord,
    Expired,
    JobEvent,
    JobsContract,
    Posted,
    ProofRecord,
    Refused,
    Registered,
    Settled,
    StakingContract,
)

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
