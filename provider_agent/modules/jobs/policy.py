# SPDX-License-Identifier: Apache-2.0
"""Which jobs this provider takes, and at what price.

Everything here is arithmetic on what was read before: no chain, no disk. A refusal is for the
tenant, too: its line names no number that changes from block to block.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from provider_agent.core.capacity import Amounts, Load, Resource
from provider_agent.core.settings import ChainSettings, RunnerSettings
from provider_agent.core.standing import Provider
from provider_agent.errors import RunnerError
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.runners import disk, outputs, probe
from provider_agent.runners.base import MIB, Limits, RunRequest
from teraproof.errors import Refused
from teraproof.protocol import allow_list
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import PRINTED_MB, PROCESSES, JobSpec
from teraproof.protocol.pricing import least_price, most_collateral
from teraproof.protocol.terms import ZERO_WORD, Judged, Order, Terms

# Seconds that a job which was hired by a quote leaves to one that paid before and has begun.
_QUOTE_WAITS = 600
# Blocks between a state and what it makes us do: the acceptance is seen, the attestation is mined.
_REACTION_BLOCKS = 3
# As many files as ext4 has room for in so much space: one for 16 KiB, and some more.
_ENTRIES, _ENTRIES_A_MB, _MOST_ENTRIES = 1_024, 64, 200_000
_TABLES = 4 * MIB  # names of the outputs
_OWN_FILES = 64  # of a run and of its result
_TAKEN = {
    Resource.SLOTS: (Code.SLOTS_TAKEN, "all slots of this provider are taken now"),
    Resource.DEVICES: (Code.DEVICES_TAKEN, "the GPUs of this provider are taken now"),
    Resource.MEMORY: (Code.MEMORY_TAKEN, "the memory of this provider is taken now"),
    Resource.DISK: (Code.DISK_TAKEN, "there is no room on this provider's disk now"),
    Resource.INODES: (Code.DISK_TAKEN, "there is no room on this provider's disk now"),
    Resource.COLLATERAL: (Code.COLLATERAL_TAKEN, "the stake is promised to other jobs"),
    Resource.GAS: (Code.AGENT_NOT_READY, "this provider is short of gas money; try later"),
}


@dataclass(frozen=True, kw_only=True)
class Standing(Provider):
    """The provider at one block, with what the market of jobs has for it. `available` is what is
    left besides what others of its modules are about to lock.
    """

    open_margin: int
    has_scores: bool
    orders_paused: bool
    free_score: int = 0
    """Proven operations per second that no open work of ours has reserved."""
    paused_seconds: int = 0
    """For how long orders were paused in total, as Jobs counts it."""


def taken(resource: Resource) -> Refused:
    """What a tenant hears when the ledger has too little of something."""
    code, line = _TAKEN[resource]
    return Refused(code, line)


class Policy:
    """The owner's settings, applied. `unit` is payment token units a whole token, `gpus` how many
    GPUs there are, `block_seconds` the time between two blocks, `disk_kind` what runs write to
    (see `runners.disk`).
    """

    def __init__(
        self,
        jobs: JobsSettings,
        runner: RunnerSettings,
        chain: ChainSettings,
        unit: int,
        gpus: Callable[[], int],
        block_seconds: Callable[[], float],
        disk_kind: str = disk.DIRECTORY,
    ) -> None:
        self._disk_kind = disk_kind
        self._jobs, self._runner, self._unit, self._gpus = jobs, runner, unit, gpus
        self._facts = f"{jobs.model_dump_json()} {runner.model_dump_json()} {unit}"
        self._blocks = chain.confirmations + _REACTION_BLOCKS
        self._confirmations, self._block_seconds = chain.confirmations, block_seconds

    @property
    def rules(self) -> bytes:
        """A digest of all that `price` and `refuse_spec` go by."""
        return hashlib.sha256(f"{self._facts} {self._gpus()}".encode()).digest()

    def price(self, spec: JobSpec) -> int:
        """The least that a job with this specification must pay, in payment token units."""
        jobs = self._jobs
        return least_price(jobs.price_per_hour, jobs.min_price, spec.timeout_seconds, self._unit)

    def collateral(self, price: int) -> int:
        """The most collateral that a job of this price may lock, in TPF wei.

        Tied to the price, or every hiccup of a cheap job would be worth more than the job.
        """
        jobs = self._jobs
        return most_collateral(jobs.collateral_per_token, jobs.max_collateral, price, self._unit)

    # ------------------------------------------------------------------ time and disk

    def busy_seconds(self, spec: JobSpec) -> int:
        """How long a job may hold a slot: its timeout, copying and hashing around it, collecting
        whatever it has made, and trying its GPUs if it fails.
        """
        moved = 2 * spec.input_bytes() + 2 * spec.resources.disk_mb * MIB
        after = outputs.most_seconds(self.entries(spec))
        after += probe.MOST_SECONDS if spec.resources.gpus else 0
        return spec.timeout_seconds + -(-moved // (self._runner.disk_mb_per_second * MIB)) + after

    def entries(self, spec: JobSpec) -> int:
        """How many files and directories a job may make: a disk has room for a number of them."""
        return min(_MOST_ENTRIES, _ENTRIES + _ENTRIES_A_MB * spec.resources.disk_mb)

    def needs(self, spec: JobSpec, collateral: int = 0) -> Amounts:
        """All that a job takes from the ledger, with so much TPF wei of collateral."""
        wanted = spec.resources
        # Each input on its own, and the directories that it may lie in.
        inputs = [size for entry in spec.inputs for size in (entry.size, 0)]
        limits = self.limits(spec, spec.timeout_seconds)
        run = disk.taken(self._disk_kind, limits, inputs)
        # The outputs, which may hold the inputs, and the log; the result has names of its own.
        result = spec.input_bytes() + wanted.disk_mb * MIB + limits.output_bytes
        kept = 2 * min(self.entries(spec), outputs.MAX_FILES)
        return Amounts(
            slots=1,
            devices=wanted.gpus,
            memory=run.memory,
            disk=run.disk + result + _TABLES,
            inodes=run.inodes + kept + _OWN_FILES,
            collateral=collateral,
            gas=1,
        )

    @property
    def lag_seconds(self) -> int:
        """How far the pinned block lies behind the newest, about."""
        return int(self._confirmations * self._block_seconds())

    def seconds_alone(self, spec: JobSpec) -> int:
        """The time from the start of a job to its deadline, at least."""
        return self.busy_seconds(spec) + self._margin()

    def seconds_needed(self, spec: JobSpec, load: Load) -> int:
        """The duration a job must allow, given what is promised already."""
        waves = load.committed // load.slots
        return waves * load.longest + self.seconds_alone(spec)

    def seconds_quoted(self, spec: JobSpec, load: Load) -> int:
        """The duration that a quote allows: a job that has paid need not wait for it."""
        return self.seconds_needed(spec, load) + _QUOTE_WAITS

    def is_brief(self, spec: JobSpec) -> bool:
        """Whether a job is over in the time that one which is hired meanwhile leaves to it."""
        return self.seconds_alone(spec) <= _QUOTE_WAITS

    def can_wait(self, spec: JobSpec, duration: int) -> bool:
        """Whether a job that is hired for `duration` seconds can have a brief one before it."""
        return duration >= self.seconds_alone(spec) + _QUOTE_WAITS

    def _margin(self) -> int:
        """Seconds between the timeout of a run and the deadline of its job."""
        return self._jobs.margin_seconds + int(self._blocks * self._block_seconds())

    # ------------------------------------------------------------------ refusals

    def refuse_terms(self, terms: Terms, now: int, standing: Standing) -> Refused | None:
        """Why the terms of an open job do not suit at the time `now`; None when they do."""
        order = terms.order
        if standing.orders_paused:
            return Refused(Code.ORDERS_PAUSED, "new orders are paused")
        paused = terms.paused_since(standing.paused_seconds)
        if now > terms.open_until(standing.open_margin, paused):
            return Refused(Code.NOT_OPEN, "no longer open")
        floor = math.ceil(self._jobs.min_price * self._unit)
        if order.max_price < floor:
            return Refused(
                Code.PRICE_TOO_LOW,
                f"never offers the {floor} units that every job here costs",
                least=str(floor),
            )
        if order.judged not in (Judged.TRUSTED, Judged.REFUSABLE):
            return Refused(
                Code.JUDGE_UNKNOWN, "asks to be judged in a way that this version does not know"
            )
        if order.judged == Judged.REFUSABLE and not self._jobs.accept_refusable:
            return Refused(
                Code.NOT_REFUSABLE,
                "may be refused after the work is done, and this provider takes no such jobs",
            )
        if order.min_score and not standing.has_scores:
            return Refused(
                Code.SCORE_MISSING, "asks for a proven score, and there is no source of scores"
            )
        if order.min_score > standing.free_score:
            return Refused(
                Code.SCORE_MISSING, "asks for a higher proven score than this provider has free"
            )
        if order.min_stake > standing.active_stake:
            return Refused(
                Code.STAKE_MISSING,
                f"asks for a stake of {order.min_stake} TPF wei, more than there is",
            )
        if order.collateral > standing.per_order:
            return Refused(
                Code.COLLATERAL_OVER_LIMIT,
                "asks for more collateral than the owner allows for one order",
            )
        if order.collateral > self.collateral(self._price_now(terms, now, standing)):
            return Refused(
                Code.COLLATERAL_OVER_PRICE,
                "asks for more collateral than this provider gives at that price",
            )
        if order.collateral > standing.available:
            return Refused(Code.COLLATERAL_TAKEN, "asks for more collateral than is free")
        return None

    def refuse_spec(self, spec: JobSpec) -> Refused | None:
        """Why this machine cannot run a specification; None when it can."""
        runner, wanted = self._runner, spec.resources
        if spec.runtime not in runner.runtimes:
            offered = sorted(runner.runtimes)
            return Refused(
                Code.RUNTIME_NOT_OFFERED,
                f"runtime {spec.runtime} is not offered here (offered: "
                f"{', '.join(offered) or 'none'})",
                offered=offered,
            )
        if spec.network:
            return Refused(
                Code.NETWORK_NOT_OFFERED, "jobs with network access are not offered here"
            )
        for name, asked, most in (
            ("cpus", wanted.cpus, runner.cpus),
            ("memory_mb", wanted.memory_mb, runner.memory_mb),
            ("disk_mb", wanted.disk_mb, runner.disk_mb),
            ("gpus", wanted.gpus, min(runner.gpus, self._gpus())),
            ("timeout_seconds", spec.timeout_seconds, self._jobs.max_seconds),
            ("input_mb", -(-spec.input_bytes() // MIB), runner.input_mb),
            ("pids", PROCESSES if spec.deterministic else 0, runner.pids),
        ):
            if asked > most:
                return Refused(
                    Code.LIMIT_EXCEEDED,
                    f"{name} {asked} is above this provider's {most}",
                    field=name,
                    limit=most,
                )
        return self._refuse_request(spec)

    def needs_list(self, order: Order, standing: Standing) -> bool:
        """Whether this provider's place on an order's allow-list has to be shown."""
        return order.allow_root not in (ZERO_WORD, standing.only_member_root)

    def refuse_list(self, order: Order, spec: JobSpec, standing: Standing) -> Refused | None:
        """Why this provider cannot show its place on an order's allow-list; None when it can."""
        if not self.needs_list(order, standing):
            return None
        if allow_list.root(spec.allow) != order.allow_root:
            return Refused(
                Code.LIST_MISMATCH,
                "has an allow-list that its specification does not hold; send the complete one",
            )
        if standing.owner not in spec.allow:
            return Refused(Code.NOT_LISTED, "is for other providers only")
        return None

    def path(self, order: Order, spec: JobSpec, standing: Standing) -> list[bytes]:
        """What shows this provider's place on an order's allow-list; empty when nothing must."""
        if order.allow_root in (ZERO_WORD, standing.only_member_root):
            return []
        return allow_list.proof(spec.allow, standing.owner)

    def refuse_time(self, terms: Terms, spec: JobSpec, load: Load) -> Refused | None:
        """Why a job has too little time with what is promised; None when it has enough."""
        needed = self.seconds_needed(spec, load)
        if terms.order.duration < needed:
            return Refused(
                Code.DURATION_TOO_SHORT,
                f"{terms.order.duration} s to the deadline are too short; ask for more",
                needed=needed,
            )
        return None

    def refuse_price(
        self, terms: Terms, least: int, now: int, standing: Standing
    ) -> Refused | None:
        """Why the price offered at the time `now` is below `least` units; None when it is not."""
        if self._price_now(terms, now, standing) < least:
            return Refused(
                Code.PRICE_TOO_LOW,
                f"offers less than the {least} units that are asked",
                least=str(least),
            )
        return None

    def limits(self, spec: JobSpec, seconds: int) -> Limits:
        """What a run of the specification may use when it has `seconds`."""
        wanted = spec.resources
        return Limits(
            timeout_seconds=seconds,
            cpus=wanted.cpus,
            memory_bytes=wanted.memory_mb * MIB,
            disk_bytes=wanted.disk_mb * MIB,
            output_bytes=(PRINTED_MB if spec.deterministic else self._runner.output_mb) * MIB,
            pids=PROCESSES if spec.deterministic else self._runner.pids,
            inodes=self.entries(spec),
        )

    def _price_now(self, terms: Terms, now: int, standing: Standing) -> int:
        """The price that an open job offers at the time `now`."""
        paused = terms.paused_since(standing.paused_seconds)
        return terms.price_at(max(now, terms.posted_at + paused), paused)

    def _refuse_request(self, spec: JobSpec) -> Refused | None:
        """What the runner would refuse must be refused before anything is promised."""
        try:
            RunRequest(
                run_id="trial",
                command=spec.command,
                limits=self.limits(spec, spec.timeout_seconds),
                env=dict(spec.env),
                inputs={entry.path: Path("trial") for entry in spec.inputs},
                outputs=spec.outputs,
            )
        except RunnerError as error:
            return Refused(Code.NOT_RUNNABLE, str(error))
        return None
