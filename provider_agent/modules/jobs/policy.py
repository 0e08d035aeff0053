# SPDX-License-Identifier: Apache-2.0
"""Which jobs this provider takes, and at what price.

Everything here is arithmetic on what was read before: no chain, no disk. A refusal is for the
tenant, too: its line names no number that changes from block to block.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provider_agent.core.capacity import Amounts, Load, Resource
from provider_agent.core.demands import Demands
from provider_agent.core.pay import Pay
from provider_agent.core.settings import ChainSettings, RunnerSettings
from provider_agent.core.standing import Provider
from provider_agent.devices import Device
from provider_agent.modules.jobs.settings import ANYONE, JobsSettings
from provider_agent.runners import disk
from provider_agent.runners.base import Limits
from teraproof.amounts import show_tpf
from teraproof.errors import Refused
from teraproof.protocol import allow_list
from teraproof.protocol.capability import CPU, Capability, beyond, gpu_class, hardware_of
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.pricing import least_price, most_collateral
from teraproof.protocol.terms import LEAST_CAPABILITY, ZERO_WORD, Judged, Order, Terms

# Seconds that a job which was hired by a quote leaves to one that paid before and has begun.
_QUOTE_WAITS = 600
# Blocks between a state and what it makes us do: the acceptance is seen, the attestation is mined.
_REACTION_BLOCKS = 3
_TAKEN = {
    Resource.SLOTS: (Code.SLOTS_TAKEN, "all slots of this provider are taken now"),
    Resource.DEVICES: (Code.DEVICES_TAKEN, "the GPUs of this provider are taken now"),
    Resource.MEMORY: (Code.MEMORY_TAKEN, "the memory of this provider is taken now"),
    Resource.CPU: (Code.CORES_TAKEN, "the cores of this provider are taken now"),
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
    """The owner's settings, applied. `pay` is the payment token, `gpus` how many GPUs there are,
    `block_seconds` the time between two blocks, `disk_kind` what runs write to
    (see `runners.disk`), `devices` the GPUs themselves.
    """

    def __init__(
        self,
        jobs: JobsSettings,
        runner: RunnerSettings,
        chain: ChainSettings,
        pay: Pay,
        gpus: Callable[[], int],
        block_seconds: Callable[[], float],
        disk_kind: str = disk.DIRECTORY,
        devices: Callable[[], Sequence[Device]] = tuple,
    ) -> None:
        self._devices = devices
        self._demands = Demands(runner, gpus, disk_kind)
        self._jobs, self._pay, self._gpus = jobs, pay, gpus
        self._facts = f"{jobs.model_dump_json()} {runner.model_dump_json()} {pay.unit}"
        self._blocks = chain.confirmations + _REACTION_BLOCKS
        self._confirmations, self._block_seconds = chain.confirmations, block_seconds

    @property
    def rules(self) -> bytes:
        """A digest of all that `price` and `refuse_spec` go by."""
        return hashlib.sha256(f"{self._facts} {self._gpus()}".encode()).digest()

    def show(self, price: int) -> str:
        """An amount of payment token units, for people."""
        return self._pay.show(price)

    def price(self, spec: JobSpec) -> int:
        """The least that a job with this specification must pay, in payment token units."""
        jobs = self._jobs
        return least_price(
            jobs.price_per_hour, jobs.min_price, spec.timeout_seconds, self._pay.unit
        )

    def collateral(self, price: int, judged: int = Judged.TRUSTED) -> int:
        """The most collateral that a job of this price may lock, in TPF wei.

        Tied to the price, or every hiccup of a cheap job would be worth more than the job.
        """
        jobs, each = self._jobs, self._jobs.collateral_per_token
        if judged > LEAST_CAPABILITY:
            each = min(each, jobs.judged_collateral_per_token)
        return most_collateral(each, jobs.max_collateral, price, self._pay.unit)

    # ------------------------------------------------------------------ time and disk

    def busy_seconds(self, spec: JobSpec) -> int:
        """See Demands."""
        return self._demands.busy_seconds(spec)

    def needs(self, spec: JobSpec, collateral: int = 0) -> Amounts:
        """See Demands."""
        return self._demands.needs(spec, collateral)

    def limits(self, spec: JobSpec, seconds: int) -> Limits:
        """See Demands."""
        return self._demands.limits(spec, seconds)

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
        floor = math.ceil(self._jobs.min_price * self._pay.unit)
        if order.max_price < floor:
            return Refused(
                Code.PRICE_TOO_LOW,
                f"never offers the {self.show(floor)} that every job here costs",
                least=str(floor),
            )
        refusal = self.refuse_way(order.judged, terms.requester, order.spec)
        if refusal is not None:
            return refusal
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
                f"asks for a stake of {show_tpf(order.min_stake)}, more than there is",
            )
        if order.collateral > standing.per_order:
            return Refused(
                Code.COLLATERAL_OVER_LIMIT,
                "asks for more collateral than the owner allows for one order",
            )
        price = self._price_now(terms, now, standing)
        if order.collateral > self.collateral(price, order.judged):
            return Refused(
                Code.COLLATERAL_OVER_PRICE,
                "asks for more collateral than this provider gives at that price",
            )
        if order.collateral > standing.available:
            return Refused(Code.COLLATERAL_TAKEN, "asks for more collateral than is free")
        return None

    def refuse_spec(self, spec: JobSpec) -> Refused | None:
        """Why this machine cannot run a specification; None when it can."""
        return self._demands.refuse(spec, self._jobs.max_seconds)

    def refuse_way(self, judged: int, requester: str, spec: bytes) -> Refused | None:
        """Why an order of this account and specification that is judged in this way is not taken;
        None when it may be.
        """
        if judged > LEAST_CAPABILITY:
            if not {ANYONE, requester, spec.hex()} & set(self._jobs.accept_judged):
                return Refused(
                    Code.COURT_REFUSED,
                    "may be judged by jurors, and this provider takes such orders only from whom "
                    "it has named",
                )
        elif judged not in tuple(Judged):
            return Refused(
                Code.JUDGE_UNKNOWN, "asks to be judged in a way that this version does not know"
            )
        elif judged == Judged.REFUSABLE and not self._jobs.accept_refusable:
            return Refused(
                Code.NOT_REFUSABLE,
                "may be refused after the work is done, and this provider takes no such jobs",
            )
        return None

    def refuse_judged(self, judged: int, spec: JobSpec) -> Refused | None:
        """Why jurors could not run a job again as its order says; None when they could, or when no
        court judges it. A jury that cannot run it says WITHHELD, and the provider loses.
        """
        if judged <= LEAST_CAPABILITY:
            return None
        line = beyond(spec)
        if line is not None:
            return Refused(Code.CAPABILITY_MISMATCH, f"may be judged, and {line}")
        gpus = spec.resources.gpus
        classes = {gpu_class(device.name) for device in self._devices()} - {None}
        hardware = {hardware_of(str(name), gpus) for name in (classes if gpus else {CPU})}
        made = {Capability(spec.kind, spec.runtime, one).number() for one in hardware}
        if judged not in made:
            return Refused(
                Code.CAPABILITY_MISMATCH,
                "names jurors of something else than it runs on here",
                capabilities=sorted(f"{number:#x}" for number in made),
            )
        return None

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
                f"offers less than the {self.show(least)} that every such job costs here",
                least=str(least),
            )
        return None

    def _price_now(self, terms: Terms, now: int, standing: Standing) -> int:
        """The price that an open job offers at the time `now`."""
        paused = terms.paused_since(standing.paused_seconds)
        return terms.price_at(max(now, terms.posted_at + paused), paused)
