# SPDX-License-Identifier: Apache-2.0
"""Hypothesis profiles of the stateful tests, beside whatever the unit tests use.

quick      in `make test`; default
deep       `make fuzz`: at least DEEP_TRANSACTIONS in all, or the run fails
no-shrink  a failing example as it was found, at once
mutants    fixed seed and nothing remembered, for the mutation run
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

DEEP_TRANSACTIONS = 100_000
# Variable that names the file in which a part of `make fuzz` leaves its numbers.
COUNTS = "TERAPROOF_FUZZ_COUNTS"
QUICK = "quick"
# A step draws from live state and sends transactions: slow by Hypothesis's measure.
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
ONCE = (Phase.explicit, Phase.generate)


def register_profiles() -> None:
    """Make the profiles known to `--hypothesis-profile`."""
    base = settings(deadline=None, suppress_health_check=SLOW, database=None)
    register = settings.register_profile
    register(QUICK, base, max_examples=10, stateful_step_count=30)
    register("deep", base, max_examples=300, stateful_step_count=60)
    register("no-shrink", base, max_examples=14, stateful_step_count=30, phases=ONCE)
    register(
        "mutants", base, max_examples=10, stateful_step_count=40, phases=ONCE, derandomize=True
    )


def chosen(part: int = 1) -> settings:
    """The profile named on the command line if it is one of these, else `quick`.

    A machine with long examples takes only a `part` of their number.
    """
    name = settings.get_current_profile_name()
    profile = settings.get_profile(name if name in ("deep", "no-shrink", "mutants") else QUICK)
    return settings(profile, max_examples=profile.max_examples // part)
