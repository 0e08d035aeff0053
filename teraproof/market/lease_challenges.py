# SPDX-License-Identifier: Apache-2.0
"""A tenant's acceptance challenge: all leases that an account has of one provider, at one time.

What is promised is what the tenant asked for: the proven throughput of the order or of its own
choice, and at `ready` the memory of each GPU. Where nothing was asked for, a true answer is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from teraproof.acceptance import examiner, policy
from teraproof.acceptance.checks import Promise, Reason, Verdict
from teraproof.acceptance.examiner import Subject
from teraproof.acceptance.format import MAX_DEVICES
from teraproof.acceptance.format import Lease as Named
from teraproof.acceptance.policy import Decision, Standing
from teraproof.client.leases import LeaseClient
from teraproof.errors import CommandError, LocalError, RemoteError, counted
from teraproof.market import lease_agents, lease_notes, leases
from teraproof.market.leases import Lease, contract, short
from teraproof.market.market import Market
from teraproof.market.signers import Signer
from teraproof.market.ui import Ui
from teraproof.pog.format import Shape
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.leasespec import LeaseSpec

# A card has a little less than its name says, and its driver takes a part of it.
MEMORY_PART = 0.9
# Between the beginnings of two challenges of one lease, as agents allow them.
PAUSE = 31.0
_STEPS = 4


@dataclass(frozen=True)
class Asked:
    """What a tenant wants to see of a lease."""

    score: int = 0
    """Integer operations per second of all its devices; 0: what the order asks for."""
    bandwidth: int = 0
    """Bytes per second at which each GPU must read its memory; 0: any."""


@dataclass(frozen=True)
class Challenged:
    """A lease, and what its challenge came to."""

    lease: Lease
    verdict: Verdict
    decision: Decision


def promise_of(lease: Lease, spec: LeaseSpec | None, asked: Asked) -> Promise:
    """What the devices of a lease must show."""
    memory = 0
    if spec is not None and not lease.state.confirmed:
        named = [
            min((sort.memory_bytes or 0) for sort in need.any_of) if need.any_of else 0
            for need in spec.needs().gpus
        ]
        memory = int(min(named, default=0) * MEMORY_PART)
    return Promise(
        score=max(1, asked.score or lease.terms.order.min_score),
        memory=memory,
        bandwidth=max(1, asked.bandwidth),
    )


def devices_of(spec: LeaseSpec | None) -> int:
    """How many devices answer: the GPUs of a lease, or its machine's processor."""
    count = 0 if spec is None else spec.needs().gpu_count
    return min(MAX_DEVICES, max(1, count))


def together_with(market: Market, lease: Lease, account: str) -> list[Lease]:
    """All active leases that an account has of the provider of this one, this one first."""
    found = [
        one
        for one in leases.find_all(market, account)
        if one.status is LeaseStatus.ACTIVE
        and one.provider == lease.provider
        and one.lease != lease.lease
    ]
    return [lease, *found]


def challenge(
    market: Market,
    signer: Signer,
    ui: Ui,
    wanted: Sequence[Lease],
    url: str,
    asked: Asked | None = None,
    failures: int = 0,
) -> list[Challenged]:
    """Challenge leases of one provider at one time; what each came to, in their order.

    `failures`: challenges of the first one that failed in a row before. CommandError for a lease
    that is not active or another account's.
    """
    want = asked or Asked()
    now = market.now()
    for lease in wanted:
        _check(lease, signer)
    shape = Shape(market.benchmark.n("latest"), market.benchmark.blocks("latest"))
    ui.doing(f"challenging {counted(len(wanted), 'lease')} of {wanted[0].provider}")
    try:
        with lease_agents.connect(market, signer, url) as client:
            client.login()
            subjects = [_subject(market, client, lease, want, shape, now) for lease in wanted]
            verdicts = examiner.examine(subjects)
    except LocalError as error:
        if not _is_theirs(error):
            raise
        verdicts = [Verdict(Reason.NO_ANSWER, str(error)) for _ in wanted]
    found = []
    for number, (lease, verdict) in enumerate(zip(wanted, verdicts, strict=True)):
        left = max(0, lease.grace_until - market.now())
        standing = Standing(left, lease.state.confirmed, failures if number == 0 else 0)
        found.append(Challenged(lease, verdict, policy.decide(verdict, standing)))
        mark = "passed" if verdict.passed else f"failed ({verdict.reason})"
        ui.step(f"challenge of {short(lease.lease)} {mark}: {verdict.line}")
    return found


def settled(
    market: Market,
    signer: Signer,
    ui: Ui,
    lease: Lease,
    url: str,
    asked: Asked | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Challenged:
    """Challenge a lease, with its neighbours, until it is clear what follows.

    Slowness and silence may be the network's: there is a second try, if the grace leaves time.
    """
    failures = 0
    while True:
        wanted = together_with(market, lease, signer.address)
        found = challenge(market, signer, ui, wanted, url, asked, failures)[0]
        if found.decision is not Decision.AGAIN:
            return found
        failures += 1
        left = lease.grace_until - market.now()
        if not lease.state.confirmed and left < 2 * PAUSE:
            ui.note("the grace leaves no time for a second try")
            return Challenged(lease, found.verdict, Decision.REJECT)
        ui.note("it may have been the network: once more, with new nonces")
        sleep(PAUSE)


def _is_theirs(error: LocalError) -> bool:
    """Whether an error is the agent's: it cannot be reached, or does not let its tenant in."""
    return isinstance(error, RemoteError) or error.code in (
        Code.AGENT_UNREACHABLE,
        Code.ANSWER_INVALID,
        Code.SIGN_IN_ELSEWHERE,
    )


def _check(lease: Lease, signer: Signer) -> None:
    if lease.terms.requester != signer.address:
        raise CommandError(
            f"lease {short(lease.lease)} belongs to {lease.terms.requester}, not to "
            f"{signer.address}",
            Code.NOT_TENANT,
        )
    if lease.status is not LeaseStatus.ACTIVE:
        raise CommandError(
            f"lease {short(lease.lease)} is {lease.word}; only an active one can be challenged",
            Code.CONTRACT_REFUSED,
        )


def _subject(
    market: Market, client: LeaseClient, lease: Lease, asked: Asked, shape: Shape, now: int
) -> Subject:
    assert lease.provider is not None  # it is active
    spec = lease_notes.spec_of(lease.terms.order.spec)
    promise = promise_of(lease, spec, asked)
    seconds, patience = policy.SECONDS, policy.PATIENCE
    if lease.in_grace(now):
        # All steps have to fit in what is left of it.
        left = max(_STEPS, lease.grace_until - now)
        seconds = min(seconds, left / (2 * _STEPS))
        patience = max(1, min(patience, left // 2))
    work = policy.plan(promise, devices_of(spec), shape, seconds=seconds, patience=patience)
    named = Named(market.chain.chain_id, contract(market).address, lease.provider, lease.lease)
    return Subject(named, work, promise, client.challenged(lease.lease))
