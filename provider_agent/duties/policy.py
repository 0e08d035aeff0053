# SPDX-License-Identifier: Apache-2.0
"""Which jobs this provider takes, and at what price.

Everything here is arithmetic on what was read before: no chain, no disk. A refusal is one line that
the tenant may read, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING

from provider_agent.protocol.jobspec import JobSpec
from provider_agent.protocol.terms import Terms
from provider_agent.settings import JobsSettings, RunnerSettings

_ZERO_ROOT = bytes(32)


@dataclass(frozen=True)
class Standing:
    """The provider on chain at one block. Amounts are TPF wei."""

    owner: str
    payout: str
    operator_is_ours: bool
    active_stake: int
    available: int
    """Collateral that can still be locked: own unlocked stake within the owner's limit in all."""
    per_order: int
    open_margin: int
    has_scores: bool
    orders_paused: bool
    only_member_root: bytes
    """Root of an allow-list whose only member is this provider; longer lists need a path."""


@dataclass(frozen=True)
class Load:
    """Work this machine has promised: how many jobs, and the longest timeout among them."""

    slots: int
    committed: int
    longest_timeout: int


class Policy:
    """The owner's settings, applied. `unit` is payment token units a whole token."""

    def __init__(self, jobs: JobsSettings, runner: RunnerSettings, unit: int, gpus: int) -> None:
        self._jobs, self._runner, self._unit, self._gpus = jobs, runner, unit, gpus
        self.max_collateral = int(jobs.max_collateral * 10**18)

    def price(self, spec: JobSpec) -> int:
        """The least that a job with this specification must pay, in payment token units."""
        exact = self._jobs.price_per_hour * self._unit * spec.timeout_seconds / 3600
        return max(1, int(exact.to_integral_value(ROUND_CEILING)))

    def refuse_spec(self, spec: JobSpec) -> str | None:
        """Why this machine cannot run a specification; None when it can."""
        runner, wanted = self._runner, spec.resources
        if spec.runtime not in runner.runtimes:
            offered = ", ".join(sorted(runner.runtimes)) or "none"
            return f"runtime {spec.runtime} is not offered here (offered: {offered})"
        if spec.network:
            return "jobs with network access are not offered here"
        for name, asked, most in (
            ("cpus", wanted.cpus, runner.cpus),
            ("memory_mb", wanted.memory_mb, runner.memory_mb),
            ("disk_mb", wanted.disk_mb, runner.disk_mb),
            ("gpus", wanted.gpus, min(runner.gpus, self._gpus)),
            ("timeout_seconds", spec.timeout_seconds, self._jobs.max_seconds),
        ):
            if asked > most:
                return f"{name} {asked} is above this provider's {most}"
        return None

    def seconds_needed(self, spec: JobSpec, load: Load) -> int:
        """The duration a job must allow, given what is promised already."""
        waves = load.committed // load.slots
        return waves * load.longest_timeout + spec.timeout_seconds + self._jobs.margin_seconds

    def refuse_job(
        self, terms: Terms, spec: JobSpec, now: int, standing: Standing, load: Load
    ) -> str | None:
        """Why an open job is not taken at the time `now`; None when it is."""
        order = terms.order
        needed = self.seconds_needed(spec, load)
        price, least = terms.price_at(max(now, terms.posted_at)), self.price(spec)
        if standing.orders_paused:
            return "new orders are paused"
        if now > terms.open_until(standing.open_margin):
            return "no longer open"
        if order.duration < needed:
            return f"{order.duration} s to the deadline are too short; {needed} s are needed"
        if price < least:
            return f"the price is {price}, {least} is asked"
        if order.min_score and not standing.has_scores:
            return "asks for a proven score, and there is no source of scores"
        if order.allow_root not in (_ZERO_ROOT, standing.only_member_root):
            return "asks for a place on a list that this provider cannot show"
        if order.min_stake > standing.active_stake:
            return f"asks for a stake of {order.min_stake}, there is {standing.active_stake}"
        return self.refuse_collateral(order.collateral, standing)

    def refuse_collateral(self, collateral: int, standing: Standing) -> str | None:
        """Why this much collateral cannot be locked; None when it can."""
        if collateral > self.max_collateral:
            return f"collateral {collateral} is above this provider's {self.max_collateral}"
        if collateral > standing.per_order:
            return f"collateral {collateral} is above the owner's limit {standing.per_order}"
        if collateral > standing.available:
            return f"collateral {collateral} is more than the {standing.available} not locked"
        return None
