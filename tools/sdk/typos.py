# SPDX-License-Identifier: Apache-2.0
"""What the type check must refuse, so that `make lint` shows that it does.

Each line carries the code of the error that mypy finds in it. An `ignore` without an error is an
error itself under `--strict`: should a generated class let one of these pass, lint fails here.
"""

from __future__ import annotations

from teraproof.contracts.jobs import JobsContract, Settled
from teraproof.contracts.staking import StakingContract


def misspelt_view(staking: StakingContract, provider: str) -> int:
    """A view that the contract does not have."""
    found: int = staking.owner_asets(provider, "latest")  # type: ignore[attr-defined]
    return found


def forgotten_block(staking: StakingContract, provider: str) -> int:
    """A view read at no block in particular."""
    return staking.owner_assets(provider)  # type: ignore[call-arg]


def wrong_argument(jobs: JobsContract, job: str) -> int:
    """A job by its hexadecimal digits."""
    return jobs.state(job, "latest")  # type: ignore[arg-type]


def wrong_result(jobs: JobsContract) -> str:
    """A time as text."""
    return jobs.paused_until("latest")  # type: ignore[return-value]


def misspelt_field(event: Settled) -> int:
    """A field that the event does not have."""
    found: int = event.payed  # type: ignore[attr-defined]
    return found
