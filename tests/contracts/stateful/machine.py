# SPDX-License-Identifier: Apache-2.0
"""A market under random use: every action goes to the contracts and to the model.

The model says beforehand whether an action is refused and why; the contracts must agree to the
letter. After each step the invariants of docs/specification.md are checked, and at the end of
each example everybody leaves by calls that anyone can make (I-2).
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, ClassVar

from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from provider_agent.protocol.messages import Attestation, Quote
from provider_agent.protocol.terms import ZERO_ADDRESS, ZERO_WORD, Order, Record, Status
from tests.contracts.deploy import DAY, LOCK, REWARD, SLASH, TPF
from tests.contracts.stateful.base import (
    DATA,
    FAR,
    Data,
    StakingMachine,
    hostile,
)
from tests.contracts.stateful.chain import EXECUTED
from tests.contracts.stateful.market import (
    CANDIDATES,
    DELEGATORS,
    KEYS,
    OPERATORS,
    OWNERS,
    PAYOUTS,
    STRANGER,
    TENANTS,
    WARDEN,
    signature,
)
from tests.contracts.stateful.model import (
    MAX_PAUSE,
    WINDOWS,
    Job,
    Jobs,
)

RUNNING = (Status.ASSIGNED, Status.ATTESTED)
SPECS = tuple(keccak(text=f"specification {n}") for n in range(3))
COLLATERALS = st.one_of(st.just(0), st.integers(1, 10**4), st.integers(10**15, 10**20))
PRICES = st.one_of(st.integers(1, 100), st.integers(10**4, 10**10))
SHORT = st.integers(1, 3 * DAY)
BITS = st.integers(0, 2**256 - 1)


def leaf(provider: str) -> bytes:
    """The leaf of an allow-list: H(H(address word))."""
    return keccak(keccak(encode(["address"], [provider])))


def allow_list(pair: tuple[str, str]) -> bytes:
    """The Merkle root over two providers."""
    return keccak(b"".join(sorted(map(leaf, pair))))


class MarketMachine(StakingMachine):
    """The base machine of the market; scenarios start differently and add rules."""

    PROVIDERS_AT_START: ClassVar[int] = 2

    def __init__(self) -> None:
        super().__init__()
        suite = self.market.suite
        self.jobs = Jobs(
            suite.parameters,
            self.addresses["jobs"],
            suite.owner,
            suite.guardian,
            suite.treasury,
            self.staking,
        )
        self.statuses: dict[bytes, Status] = {}

    def with_status(self, *statuses: Status) -> list[Job]:
        return [job for job in self.jobs.jobs.values() if job.status in statuses]

    def moments(self) -> list[int]:
        """Every time still to come at which something changes."""
        jobs, staking = self.jobs, self.staking
        times = {jobs.paused_until, jobs.next_pause}
        times |= {active_from for _, active_from in staking.managers.values()}
        times |= {lock.expires_at for lock in staking.locks.values()}
        times |= {ready_at for *_, ready_at in self.tickets()}
        times |= {p.commission_since for p in staking.providers.values()}
        for job in jobs.jobs.values():
            if job.status is Status.OPEN:
                times |= {job.terms.posted_at + job.order.auction, jobs.open_until(job)}
            elif job.status is Status.ASSIGNED:
                times.add(job.deadline)
            elif job.status is Status.ATTESTED:
                times.add(job.window_end)
        return sorted(time for time in times if time > self.now)

    # ------------------------------------------------------------------------------ set-up

    @initialize()
    def found(self) -> None:
        for n in range(self.PROVIDERS_AT_START):
            self.enrol(OWNERS[n], OPERATORS[n].address, 10_000 * TPF)

    @precondition(lambda self: self.registered)
    @rule(data=DATA)
    def set_payout(self, data: Data) -> None:
        owner = self.pick(data, OWNERS)
        payout = self.pick(data, (owner, *PAYOUTS, ZERO_ADDRESS))
        self.act(
            "staking.set_payout",
            (payout,),
            owner,
            lambda: self.staking.set_payout(owner, payout),
        )

    @precondition(lambda self: self.registered)
    @rule(data=DATA, amount=st.one_of(st.integers(0, 10**4), st.integers(10**15, 10**21)))
    def reward(self, data: Data, amount: int) -> None:
        provider = self.pick(data, self.registered)
        manager = self.pick(data, (WARDEN, WARDEN, WARDEN, *CANDIDATES))
        since = self.staking.providers[provider].commission_since
        earned_at = self.pick(data, (self.now, since, max(1, since) - 1))
        self.act(
            "staking.reward",
            (provider, amount, earned_at),
            manager,
            lambda: self.staking.reward(self.now, manager, provider, amount, earned_at),
        )

    @precondition(lambda self: self.registered)
    @rule(data=DATA, amount=COLLATERALS)
    def lock(self, data: Data, amount: int) -> None:
        """A manager beside Jobs locks, at and around every bound."""
        provider = self.pick(data, self.registered)
        manager = self.pick(data, (WARDEN, WARDEN, *CANDIDATES))
        pool = self.staking.providers[provider]
        operator = self.pick(data, (pool.operator, pool.operator, *self.free_operators()[:1]))
        spare = max(0, self.staking.owner_worth(provider) - self.staking.locked(provider))
        amount = self.pick(data, (amount, spare, spare + 1, pool.per_order, pool.per_order + 1))
        longest = self.now + self.staking.p.max_lock
        expires_at = self.pick(data, (self.now + DAY, self.now, self.now - 1, longest, longest + 1))
        min_stake = self.pick(data, (0, pool.active.assets, pool.active.assets + 1))
        ids = [id for m, p, id in self.staking.locks if (m, p) == (manager, provider)]
        id = self.pick(data, (keccak(text=f"order {self.number()}"), *ids[:1]))
        args = (operator, id, amount, expires_at, min_stake)
        self.act("staking.lock", args, manager, lambda: self.staking.lock(self.now, manager, *args))

    def wardens_locks(self) -> list[tuple[str, bytes]]:
        return [(p, id) for m, p, id in self.staking.locks if m == WARDEN]

    @precondition(lambda self: self.wardens_locks())
    @rule(data=DATA)
    def unlock(self, data: Data) -> None:
        provider, id = self.pick(data, self.wardens_locks())
        self.act(
            "staking.unlock",
            (provider, id),
            WARDEN,
            lambda: self.staking.unlock(WARDEN, provider, id),
        )

    @precondition(lambda self: self.wardens_locks())
    @rule(
        data=DATA,
        victim_bps=st.sampled_from([0, 1, 3_333, 10_000, 10_001]),
        bounty_bps=st.sampled_from([0, 1, 3_333, 5_000, 5_001]),
    )
    def seize(self, data: Data, victim_bps: int, bounty_bps: int) -> None:
        provider, id = self.pick(data, self.wardens_locks())
        self.take_lock(WARDEN, provider, id, victim_bps, bounty_bps)

    def take_lock(
        self, manager: str, provider: str, id: bytes, victim_bps: int, bounty_bps: int
    ) -> None:
        args = (provider, id, TENANTS[0], STRANGER, victim_bps, bounty_bps)
        with_others = self.others_worth(provider)
        lock = self.staking.locks.get((manager, provider, id))
        burned = self.staking.burned
        self.act(
            "staking.seize", args, manager, lambda: self.staking.seize(self.now, manager, *args)
        )
        self.check_seizure(provider, with_others)
        assert self.staking.burned - burned <= (lock.amount if lock else 0), "I-3: above the lock"

    def others_worth(self, provider: str) -> dict[Any, int]:
        """What everybody but the owner has at a provider, unbonding stake included."""
        pool = self.staking.providers[provider]
        worth = {a: pool.active.worth(n) for a, n in pool.active.held.items() if a != provider}
        return worth | {t: pool.unbonding.worth(n) for t, n in pool.unbonding.held.items()}

    def check_seizure(self, provider: str, before: dict[Any, int]) -> None:
        after = self.others_worth(provider)
        assert all(after[who] >= worth for who, worth in before.items()), (
            "I-4: a seizure touches the owner's shares alone"
        )
        self.check_supply()

    @rule(data=DATA, permissions=st.integers(0, LOCK | SLASH | REWARD))
    def announce_manager(self, data: Data, permissions: int) -> None:
        manager = self.pick(data, (*CANDIDATES, ZERO_ADDRESS))
        self.act(
            "staking.announce_manager",
            (manager, permissions),
            self.owner,
            lambda: self.staking.announce_manager(self.now, self.owner, manager, permissions),
        )

    @rule(data=DATA)
    def remove_manager(self, data: Data) -> None:
        """Jobs itself may go too: what it locked and holds must still find its end (I-2)."""
        manager = self.pick(data, (*CANDIDATES, *CANDIDATES, self.jobs.address))
        self.act(
            "staking.remove_manager",
            (manager,),
            self.owner,
            lambda: self.staking.remove_manager(self.owner, manager),
        )

    # ------------------------------------------------------------------------------- orders

    def draw_order(self, data: Data) -> tuple[Order, tuple[str, ...]]:
        """An order, and who may take it (empty: anyone)."""
        max_price = data.draw(PRICES)
        auction = data.draw(st.sampled_from([0, 0, 1, 3_600, 30 * DAY, 30 * DAY + 1]))
        allowed = (OWNERS[0], OWNERS[1]) if data.draw(st.integers(0, 4)) == 0 else ()
        order = Order(
            spec=self.pick(data, SPECS),
            start_price=data.draw(st.integers(0, max_price)),
            max_price=max_price,
            collateral=data.draw(COLLATERALS),
            duration=data.draw(SHORT),
            auction=auction,
            min_stake=data.draw(st.sampled_from([0, 0, 0, 10**21, 10**25])),
            min_score=data.draw(st.sampled_from([0, 0, 0, 5, 10])),
            allow_root=allow_list((OWNERS[0], OWNERS[1])) if allowed else ZERO_WORD,
            nonce=self.number(),
        )
        return order, allowed

    def can_pay(self, tenant: str, price: int) -> bool:
        """Whether to pay from credit: whenever there is nearly enough of it."""
        return self.jobs.credits[tenant] + 1 >= price

    @rule(data=DATA)
    def post(self, data: Data) -> None:
        tenant = self.pick(data, TENANTS)
        order, allowed = self.draw_order(data)
        self.open(tenant, order, self.can_pay(tenant, order.max_price), allowed)

    def open(
        self, tenant: str, order: Order, from_credit: bool, allowed: tuple[str, ...] = ()
    ) -> bool:
        return self.act(
            "jobs.post",
            (order.abi_tuple(), from_credit),
            tenant,
            lambda: self.jobs.post(self.now, tenant, order, from_credit, allowed),
        )

    @rule(data=DATA)
    def post_at_the_bounds(self, data: Data) -> None:
        """Orders that no contract may take, or only just."""
        tenant = self.pick(data, TENANTS)
        longest = self.staking.p.max_lock - self.jobs.window - self.staking.p.lock_margin
        order = Order(SPECS[0], 1, 1, 0, 60, 0, 0, 0, ZERO_WORD, self.number())
        change = self.pick(
            data,
            (
                {"max_price": 0, "start_price": 0},
                {"collateral": 2**120 - 1},
                {"collateral": 2**120},
                {"duration": 0},
                {"duration": longest},
                {"duration": longest + 1},
                {"auction": 30 * DAY},
                {"auction": 30 * DAY + 1},
            ),
        )
        self.open(tenant, replace(order, **change), False)

    @precondition(lambda self: self.registered)
    @rule(data=DATA, requester=st.sampled_from([ZERO_ADDRESS, *TENANTS]), late=st.integers(-1, 1))
    def hire(self, data: Data, requester: str, late: int) -> None:
        tenant = self.pick(data, TENANTS)
        operator = self.pick(data, [p.operator for p in self.staking.providers.values()])
        quote = Quote(
            operator,
            requester if data.draw(st.booleans()) else ZERO_ADDRESS,
            self.pick(data, SPECS),
            data.draw(PRICES),
            data.draw(COLLATERALS),
            data.draw(SHORT),
            max(0, self.now - late) if data.draw(st.booleans()) else FAR,
            self.pick(data, (self.number(), 255, 256, 1)),
        )
        self.engage(tenant, quote, operator)

    def engage(self, tenant: str, quote: Quote, signer: str) -> bool:
        from_credit = self.can_pay(tenant, quote.price)
        return self.act(
            "jobs.hire",
            (quote.abi_tuple(), signature(self.market.jobs, quote, signer), from_credit),
            tenant,
            lambda: self.jobs.hire(self.now, tenant, quote, signer == quote.operator, from_credit),
        )

    @precondition(lambda self: self.registered)
    @rule(data=DATA, word=st.integers(0, 1), mask=st.one_of(st.sampled_from([1, 2, 2**255]), BITS))
    def cancel_quotes(self, data: Data, word: int, mask: int) -> None:
        operator = self.pick(data, [*KEYS])
        self.act(
            "jobs.cancel_quotes",
            (word, mask),
            operator,
            lambda: self.jobs.cancel_quotes(operator, word, mask),
        )

    @precondition(lambda self: self.registered and self.with_status(Status.OPEN))
    @rule(data=DATA)
    def accept(self, data: Data) -> None:
        job = self.pick(data, self.with_status(Status.OPEN))
        owner = self.pick(data, self.registered)
        self.take(job, self.staking.providers[owner].operator)

    def take(self, job: Job, operator: str) -> bool:
        owner = self.staking.provider_of(operator)
        proof = [leaf(other) for other in job.allowed if other != owner]
        return self.act(
            "jobs.accept",
            (job.terms.abi_tuple(), proof),
            operator,
            lambda: self.jobs.accept(self.now, operator, job.terms),
        )

    @precondition(lambda self: self.with_status(Status.ASSIGNED))
    @rule(data=DATA)
    def attest(self, data: Data) -> None:
        self.deliver(self.pick(data, self.with_status(Status.ASSIGNED)))

    def attestation(self, job: Job) -> Attestation:
        n = self.number()
        result, receipt = keccak(text=f"result {n}"), keccak(text=f"receipt {n}")
        return Attestation(
            job.terms.job_id(), job.order.spec, result, receipt, job.assigned_at, self.now
        )

    def deliver(self, job: Job, signer: str | None = None) -> bool:
        """Anyone may relay the operator's signature."""
        message = self.attestation(job)
        signer = signer or self.staking.providers[job.provider].operator
        signed = signature(self.market.jobs, message, signer)
        return self.act(
            "jobs.attest",
            (
                job.terms.abi_tuple(),
                message.result,
                message.receipt,
                message.started,
                message.finished,
                signed,
            ),
            STRANGER,
            lambda: self.jobs.attest(self.now, job.terms, message.struct_hash(), signer),
        )

    # -------------------------------------------------------------------------------- exits

    @precondition(lambda self: self.with_status(Status.ATTESTED))
    @rule(data=DATA)
    def approve(self, data: Data) -> None:
        job = self.pick(data, self.with_status(Status.ATTESTED))
        self.accept_result(job, job.terms.requester)

    def accept_result(self, job: Job, sender: str) -> None:
        record = job.record
        assert record is not None
        self.act(
            "jobs.approve",
            (job.terms.abi_tuple(), record.abi_tuple()),
            sender,
            lambda: self.jobs.approve(sender, job.terms, record),
        )

    @precondition(lambda self: self.with_status(Status.ATTESTED))
    @rule(data=DATA, wait=st.sampled_from([None, 0, 1]))
    def finalize(self, data: Data, wait: int | None) -> None:
        """In the window, in its last second, or right after it."""
        job = self.pick(data, self.with_status(Status.ATTESTED))
        if wait is not None:
            self.chain.now = max(self.now, job.window_end + wait)
        self.conclude(job)

    def conclude(self, job: Job) -> None:
        record = job.record
        assert record is not None
        self.act(
            "jobs.finalize",
            (job.terms.abi_tuple(), record.abi_tuple()),
            STRANGER,
            lambda: self.jobs.finalize(self.now, job.terms, record),
        )

    @precondition(lambda self: self.with_status(Status.ASSIGNED))
    @rule(data=DATA, wait=st.sampled_from([None, 0, 1]))
    def expire(self, data: Data, wait: int | None) -> None:
        job = self.pick(data, self.with_status(Status.ASSIGNED))
        if wait is not None:
            self.chain.now = max(self.now, job.deadline + wait)
        self.give_up(job, self.pick(data, (STRANGER, job.terms.requester, job.provider)))

    def give_up(self, job: Job, hunter: str) -> None:
        before = self.others_worth(job.provider)
        self.act(
            "jobs.expire",
            (job.terms.abi_tuple(),),
            hunter,
            lambda: self.jobs.expire(self.now, hunter, job.terms),
        )
        self.check_seizure(job.provider, before)

    @precondition(lambda self: self.with_status(Status.OPEN))
    @rule(data=DATA, wait=st.sampled_from([None, None, 0, 1]))
    def cancel(self, data: Data, wait: int | None) -> None:
        job = self.pick(data, self.with_status(Status.OPEN))
        if wait is not None:
            self.chain.now = max(self.now, self.jobs.open_until(job) + wait)
        self.call_off(job, self.pick(data, (STRANGER, job.terms.requester)))

    def call_off(self, job: Job, sender: str) -> None:
        self.act(
            "jobs.cancel",
            (job.terms.abi_tuple(),),
            sender,
            lambda: self.jobs.cancel(self.now, sender, job.terms),
        )

    # ------------------------------------------------------------------- money in and out

    @rule(data=DATA, amount=st.one_of(st.just(0), PRICES))
    def deposit(self, data: Data, amount: int) -> None:
        tenant = self.pick(data, TENANTS)
        self.act("jobs.deposit", (amount,), tenant, lambda: self.jobs.deposit(tenant, amount))

    @rule(data=DATA)
    def withdraw(self, data: Data) -> None:
        owed = sorted(a for a, amount in self.jobs.credits.items() if amount)
        self.cash(self.pick(data, [*owed, STRANGER]))

    def cash(self, account: str) -> None:
        self.act("jobs.withdraw", (), account, lambda: self.jobs.withdraw(account))

    @rule()
    def collect_fees(self) -> None:
        treasury, due = self.jobs.treasury, self.jobs.fees
        before = self.chain.view("payment", "balanceOf", treasury)
        self.act("jobs.collect_fees", (), STRANGER, self.jobs.collect_fees)
        assert self.chain.view("payment", "balanceOf", treasury) == before + due

    @rule(
        contract=st.sampled_from(["staking", "jobs"]),
        token=st.sampled_from(["token", "payment"]),
        amount=st.integers(1, 10**9),
    )
    def donate(self, contract: str, token: str, amount: int) -> None:
        """Tokens sent past the rules change nothing (I-1)."""
        self.act(f"{token}.transfer", (self.addresses[contract], amount), STRANGER, lambda: True)
        if (contract, token) in (("staking", "token"), ("jobs", "payment")):
            self.donated[token] += amount

    # --------------------------------------------------------------------------- parameters

    @rule(bps=st.one_of(st.integers(0, 1_000), st.just(1_001)))
    def set_fee(self, bps: int) -> None:
        self.act("jobs.set_fee", (bps,), self.owner, lambda: self.jobs.set_fee(self.owner, bps))

    @rule(
        seconds=st.one_of(
            st.sampled_from([WINDOWS.start - 1, WINDOWS.start, WINDOWS.stop - 1, WINDOWS.stop]),
            SHORT,
        )
    )
    def set_challenge_window(self, seconds: int) -> None:
        self.act(
            "jobs.set_challenge_window",
            (seconds,),
            self.owner,
            lambda: self.jobs.set_challenge_window(self.owner, seconds),
        )

    @rule(data=DATA)
    def set_treasury(self, data: Data) -> None:
        treasury = self.pick(data, (*PAYOUTS, self.market.suite.treasury, ZERO_ADDRESS))
        self.act(
            "jobs.set_treasury",
            (treasury,),
            self.owner,
            lambda: self.jobs.set_treasury(self.owner, treasury),
        )

    @rule(data=DATA)
    def set_guardian(self, data: Data) -> None:
        guardian = self.pick(data, (self.market.suite.guardian, PAYOUTS[0]))
        self.act(
            "jobs.set_guardian",
            (guardian,),
            self.owner,
            lambda: self.jobs.set_guardian(self.owner, guardian),
        )

    @rule(duration=st.sampled_from([0, 1, 3_600, MAX_PAUSE, MAX_PAUSE + 1]))
    def pause(self, duration: int) -> None:
        guardian = self.jobs.guardian
        self.act(
            "jobs.pause",
            (duration,),
            guardian,
            lambda: self.jobs.pause(self.now, guardian, duration),
        )

    @precondition(lambda self: self.jobs.paused_until > self.now)
    @rule(data=DATA)
    def unpause(self, data: Data) -> None:
        sender = self.pick(data, (self.jobs.guardian, self.owner, STRANGER))
        self.act("jobs.unpause", (), sender, lambda: self.jobs.unpause(sender))

    @precondition(lambda self: self.registered)
    @rule(data=DATA, points=st.sampled_from([0, 5, 9, 10, 15, 100]))
    def set_score(self, data: Data, points: int) -> None:
        provider = self.pick(data, self.registered)
        self.act(
            "scores.set_score",
            (provider, points),
            STRANGER,
            lambda: self.jobs.scores.update({provider: points - self.jobs.scores[provider]}),
        )

    @rule(seconds=st.one_of(st.integers(1, 60), st.integers(60, 2 * DAY)))
    def wait(self, seconds: int) -> None:
        note(f"{self.now}: wait {seconds}")
        self.chain.now += seconds

    # ------------------------------------------------------------------------------- hostile

    @hostile
    @rule(data=DATA)
    def call_without_right(self, data: Data) -> None:
        """A right that the caller does not have, whatever the state."""
        anyone = self.pick(data, (STRANGER, *TENANTS, *DELEGATORS))
        provider = self.pick(data, OWNERS)
        owner, lacks = "ownable: caller is not the owner", "staking: caller lacks the permission"
        setup = "staking: not in set-up"
        target, args, reason = self.pick(
            data,
            (
                ("jobs.set_fee", (0,), owner),
                ("jobs.set_challenge_window", (10,), owner),
                ("jobs.set_treasury", (anyone,), owner),
                ("jobs.set_guardian", (anyone,), owner),
                ("jobs.pause", (60,), "guardian: caller is not the guardian"),
                ("jobs.unpause", (), "guardian: caller is not the guardian"),
                ("staking.announce_manager", (anyone, 7), owner),
                ("staking.remove_manager", (self.jobs.address,), owner),
                ("staking.setup_manager", (anyone, 7), setup),
                ("staking.seal", (), setup),
                ("staking.slash", (provider, 1), lacks),
                ("staking.reward", (provider, 1, 0), lacks),
                ("staking.lock", (OPERATORS[0].address, ZERO_WORD, 1, self.now, 0), lacks),
                ("staking.set_commission", (0,), "staking: not registered"),
                ("staking.set_lock_limits", (1, 1), "staking: not registered"),
                ("staking.set_endpoint", ("nowhere",), "staking: not registered"),
                ("staking.set_payout", (anyone,), "staking: not registered"),
                ("staking.delegate", (STRANGER, 1), "staking: not registered"),
                ("staking.undelegate", (STRANGER, 1), "staking: not registered"),
                ("staking.withdraw_unbonded", (provider, 2**32), "staking: no such ticket"),
            ),
        )
        self.refuse(target, args, anyone, reason)

    @precondition(lambda self: self.market.suite.deployer)
    @hostile
    @rule()
    def deployer_comes_back(self) -> None:
        deployer = self.market.suite.deployer
        self.refuse("staking.setup_manager", (STRANGER, 7), deployer, "staking: not in set-up")
        self.refuse("staking.seal", (), deployer, "staking: not in set-up")

    @precondition(lambda self: self.registered)
    @hostile
    @rule(data=DATA)
    def steal_operator(self, data: Data) -> None:
        """Bind a key without its consent, with another owner's, or one that serves already."""
        owner = self.pick(data, self.registered)
        free = self.free_operators()
        operator = self.pick(data, free)
        other = self.pick(data, [a for a in KEYS if a != operator])
        not_his = "staking: not the operator's consent"
        someone_elses = self.consent(STRANGER, operator, FAR, operator)
        bound = self.staking.providers[owner].operator
        consent = self.consent(STRANGER, bound, FAR, bound)
        late = self.now - 1
        old = self.consent(owner, operator, late, operator)
        for key, expires, signed, reason in (
            (operator, FAR, self.consent(owner, operator, FAR, other), not_his),
            (operator, FAR, someone_elses, not_his),
            (operator, FAR, b"", not_his),
            (operator, late, old, "staking: consent expired"),
        ):
            self.refuse("staking.set_operator", (key, expires, signed), owner, reason)
        args = (bound, STRANGER, 0, 0, 0, "", FAR, consent)
        self.refuse("staking.register", args, STRANGER, "staking: operator is taken")
        again = (operator, owner, 0, 0, 0, "", FAR, self.consent(owner, operator, FAR, operator))
        self.refuse("staking.register", again, owner, "staking: already registered")

    @precondition(lambda self: self.staking.locks)
    @hostile
    @rule(data=DATA)
    def grab_lock(self, data: Data) -> None:
        """Others' locks: a name that did not lock finds nothing to seize or to open."""
        manager, provider, id = self.pick(data, list(self.staking.locks))
        thief = self.pick(data, (STRANGER, *[m for m in (WARDEN, *CANDIDATES) if m != manager]))
        if (thief, provider, id) not in self.staking.locks:
            self.take_lock(thief, provider, id, 10_000, 0)
            self.act(
                "staking.unlock",
                (provider, id),
                thief,
                lambda: self.staking.unlock(thief, provider, id),
            )
        assert (manager, provider, id) in self.staking.locks
        lock = self.staking.locks[manager, provider, id]
        assert self.chain.view("staking", "lock_of", manager, provider, id) == (
            lock.amount,
            lock.expires_at,
        )

    @precondition(lambda self: self.with_status(Status.ASSIGNED))
    @hostile
    @rule(data=DATA)
    def forge_attestation(self, data: Data) -> None:
        """Another key, or the right key over another job."""
        job = self.pick(data, self.with_status(Status.ASSIGNED))
        if self.now > job.deadline:
            self.deliver(job)
            return
        operator = self.staking.providers[job.provider].operator
        self.deliver(job, self.pick(data, [a for a in KEYS if a != operator]))
        message = replace(self.attestation(job), job=keccak(text="another job"))
        signed = signature(self.market.jobs, message, operator)
        args = (message.result, message.receipt, message.started, message.finished)
        wrong = "jobs: not the operator's attestation"
        self.refuse("jobs.attest", (job.terms.abi_tuple(), *args, b""), STRANGER, wrong)
        self.refuse("jobs.attest", (job.terms.abi_tuple(), *args, signed), STRANGER, wrong)

    @precondition(lambda self: self.jobs.jobs)
    @hostile
    @rule(data=DATA)
    def forge_terms(self, data: Data) -> None:
        """Better terms than the deal's are another job, which does not exist (I-11)."""
        job = self.pick(data, list(self.jobs.jobs.values()))
        terms = self.pick(
            data,
            (
                replace(job.terms, fee_bps=job.terms.fee_bps + 1),
                replace(job.terms, challenge_window=job.terms.challenge_window + 1),
                replace(job.terms, order=replace(job.order, max_price=job.order.max_price + 1)),
                replace(job.terms, requester=STRANGER),
            ),
        )
        forged = terms.abi_tuple()
        record = (job.record or Record(OWNERS[0], 1, 1, ZERO_WORD)).abi_tuple()
        operator = OPERATORS[0].address
        blank = (forged, ZERO_WORD, ZERO_WORD, 0, 0, b"")
        if self.now >= self.jobs.paused_until:
            self.refuse("jobs.accept", (forged, []), operator, "jobs: not open")
        self.refuse("jobs.attest", blank, operator, "jobs: not assigned")
        self.refuse("jobs.expire", (forged,), operator, "jobs: not assigned")
        self.refuse("jobs.cancel", (forged,), terms.requester, "jobs: not open")
        self.refuse("jobs.approve", (forged, record), terms.requester, "jobs: not attested")

    @precondition(lambda self: self.with_status(Status.ATTESTED))
    @hostile
    @rule(data=DATA)
    def forge_record(self, data: Data) -> None:
        """Another provider or another time is not what was attested."""
        job = self.pick(data, self.with_status(Status.ATTESTED))
        record = job.record
        assert record is not None
        forged = self.pick(
            data,
            (
                replace(record, provider=STRANGER),
                replace(record, assigned_at=record.assigned_at - 1),
                replace(record, attested_at=0),
                replace(record, attestation=ZERO_WORD),
            ),
        )
        args = (job.terms.abi_tuple(), forged.abi_tuple())
        reason = "jobs: not the attested record"
        self.refuse("jobs.approve", args, job.terms.requester, reason)
        early = replace(forged, attested_at=0).abi_tuple()
        self.refuse("jobs.finalize", (args[0], early), STRANGER, reason)
        self.accept_result(job, STRANGER)
        assert job.status is Status.ATTESTED

    @precondition(lambda self: self.jobs.jobs)
    @hostile
    @rule(data=DATA)
    def take_wrong_edge(self, data: Data) -> None:
        """Every call in every status: off the drawn edges there is nothing (I-10)."""
        job = self.pick(data, list(self.jobs.jobs.values()))
        tenant = job.terms.requester
        record = job.record or Record(job.provider, 0, 0, ZERO_WORD)
        terms = job.terms.abi_tuple()
        if job.status is not Status.OPEN:
            self.call_off(job, tenant)
            if self.now >= self.jobs.paused_until:
                self.refuse("jobs.accept", (terms, []), OPERATORS[0].address, "jobs: not open")
        if job.status is not Status.ASSIGNED:
            self.refuse("jobs.expire", (terms,), STRANGER, "jobs: not assigned")
            blank = (terms, ZERO_WORD, ZERO_WORD, 0, 0, b"")
            self.refuse("jobs.attest", blank, STRANGER, "jobs: not assigned")
        if job.status is not Status.ATTESTED:
            args = (terms, record.abi_tuple())
            self.refuse("jobs.approve", args, tenant, "jobs: not attested")

    @precondition(lambda self: self.jobs.used_quotes and self.now >= self.jobs.paused_until)
    @hostile
    @rule(data=DATA)
    def replay_quote(self, data: Data) -> None:
        """A nonce works once, whatever else the quote says; nobody signs for another key."""
        operator, nonce = self.pick(data, sorted(self.jobs.used_quotes)[:8])
        quote = Quote(operator, ZERO_ADDRESS, SPECS[0], 1, 0, 60, FAR, nonce)
        tenant = self.pick(data, TENANTS)
        self.engage(tenant, quote, operator)
        unused = replace(quote, nonce=10_000 + self.number())
        self.engage(tenant, unused, self.pick(data, [a for a in KEYS if a != operator]))

    @invariant()
    def conservation(self) -> None:
        """I-1: liabilities = received - sent, and donations lie on top, for both tokens."""
        staking, jobs = self.staking, self.jobs
        assert staking.liabilities() == staking.balance, "I-1: TPF"
        assert jobs.liabilities() == jobs.balance, "I-1: payment token"
        if not self.changed:
            return
        self.changed = False
        stake = self.chain.view("token", "balanceOf", self.addresses["staking"])
        money = self.chain.view("payment", "balanceOf", self.addresses["jobs"])
        assert stake == staking.balance + self.donated["token"], "I-1: TPF"
        assert money == jobs.balance + self.donated["payment"], "I-1: payment token"

    @invariant()
    def edges_only(self) -> None:
        """I-10, I-5: each job moved along one edge at most, and ended at most once."""
        for id, job in self.jobs.jobs.items():
            if self.statuses.get(id) is not job.status:
                assert self.chain.view("jobs", "status", id) == job.status, "I-10"
                self.statuses[id] = job.status

    def sweep(self) -> None:
        """Everything that the contracts say, against the model."""
        view, jobs = self.chain.view, self.jobs
        self.sweep_staking()
        for name in self.staking.providers:
            assert view("jobs", "reserved_score", name) == jobs.reserved_score(name)
        assert view("jobs", "fee_bps") == jobs.fee_bps
        assert view("jobs", "challenge_window") == jobs.window
        assert view("jobs", "accrued_fees") == jobs.fees
        assert view("jobs", "paused_until") == jobs.paused_until
        assert view("jobs", "next_pause") == jobs.next_pause
        assert view("jobs", "guardian") == jobs.guardian
        assert view("jobs", "treasury") == jobs.treasury
        credited = {a: view("jobs", "credit_of", a) for a in self.market.people}
        assert credited == {a: jobs.credits[a] for a in credited}
        escrowed = 0
        for id, job in jobs.jobs.items():
            word = view("jobs", "state", id)
            assert word == self.state_word(job), f"state of a job that is {job.status.name}"
            if word & 255 == Status.OPEN:
                escrowed += job.order.max_price
            elif word & 255 in RUNNING:
                # I-11: what the deal was made on still holds.
                terms = job.terms.abi_tuple()
                escrowed += view("jobs", "price_at", terms, job.assigned_at)
        due = escrowed + sum(credited.values()) + jobs.fees
        assert due == jobs.balance, "I-1: payment token, by the views"
        for operator, nonce in sorted(jobs.used_quotes)[:4]:
            assert view("jobs", "quote_used", operator, nonce)
        assert not view("jobs", "quote_used", OPERATORS[0].address, 2**256 - 1) or (
            (OPERATORS[0].address, 2**256 - 1) in jobs.used_quotes
        )

    def state_word(self, job: Job) -> int:
        if job.status is Status.ASSIGNED:
            return int(job.provider, 16) << 96 | job.assigned_at << 8 | Status.ASSIGNED
        if job.status is Status.ATTESTED:
            assert job.record is not None
            return job.record.state_word()
        return int(job.status)

    def everybody_leaves(self) -> None:
        """I-2: from any state, by calls that anyone can make for everybody, to the last unit."""
        self.sweep()
        # In time, so that seizures happen, or so late that every lock has run out.
        order = random.Random(self.steps * 1_000 + len(self.jobs.jobs))  # repeats with the example
        if order.random() < 0.3:
            self.chain.now = max([self.now, *self.moments()]) + 1
        running = self.with_status(Status.OPEN, *RUNNING)
        order.shuffle(running)
        for job in running:
            if job.status is Status.OPEN:
                self.chain.now = max(self.now, self.jobs.open_until(job) + 1)
                self.call_off(job, STRANGER)
            elif job.status is Status.ASSIGNED:
                self.chain.now = max(self.now, job.deadline + 1)
                self.give_up(job, STRANGER)
            else:
                self.chain.now = max(self.now, job.window_end + 1)
                self.conclude(job)
            assert job.status in (Status.SETTLED, Status.CANCELLED, Status.EXPIRED), "I-2"
        self.all_stake_leaves()
        for account in [a for a, amount in self.jobs.credits.items() if amount]:
            self.cash(account)
        if self.jobs.fees:
            self.collect_fees()
        self.changed = True
        self.conservation()
        assert self.jobs.balance == 0, "I-2: payment tokens cannot leave"
        EXECUTED["examples"] += 1
