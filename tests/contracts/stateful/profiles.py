# SPDX-License-Identifier: Apache-2.0
"""How long the stateful tests run.

quick    in `make test`; default
mutants  fixed seeds, for the mutation run
`make fuzz` (tests/fuzz.py) runs the same machine by the million.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

PROFILE = "TERAPROOF_STATEFUL"
# Another beginning of the seeds, to look elsewhere or to see a failure again.
SEED = "TERAPROOF_SEED"


@dataclass(frozen=True)
class Profile:
    """Examples of this number of steps each."""

    examples: int
    steps: int
    small: bool = True
    """Make failures small."""


PROFILES = {"quick": Profile(24, 250), "mutants": Profile(12, 250, small=False)}


def chosen() -> Profile:
    """The profile that the environment names."""
    return PROFILES[os.environ.get(PROFILE, "quick")]


def first_seed() -> int:
    return int(os.environ.get(SEED, "1"))
