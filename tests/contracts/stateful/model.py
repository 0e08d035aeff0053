# SPDX-License-Identifier: Apache-2.0
"""The rules of Staking and Jobs in plain Python, from the design and the docstrings.

Nothing is packed and nothing is summed up in advance: a pool is a table of who holds how many
shares, what is locked is the sum of the locks, prices are fractions, and a deal keeps its own
copy of the terms. A refusal carries the revert reason that the contract must give. Checks come
before the first change, so a refused action leaves the model as it was.

Rules by number (docs/specification.md): I-1 `Market.liabilities`, I-2 `Fund.dust_bound`,
I-3 `Staking.owner_worth` against `Staking.locked`, I-5 and I-10 `Job.move`, I-11 `Job.terms`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, floor

from provider_agent.protocol.messages import Quote
from provider_agent.protocol.terms import ZERO_ADDRESS, ZERO_WORD, Order, Record, Status, Terms
from tests.contracts.deploy import DAY, LOCK, REWARD, SLASH, Parameters

BPS = 10_000
VIRTUAL_SHARES = 1_000
# After a slash no part has more shares than this for a wei: all of them are divided until it fits.
MAX_RATIO = 10**10
REBASE = 10**6
# With fewer shares than this a reward would go to nobody's shares in good part.
MIN_REWARDED = VIRTUAL_SHARES * 10**6
MANAGER_MARGIN = DAY
MAX_PAUSE = 7 * DAY
MAX_AUCTION = 30 * DAY
MAX_FEE = 1_000
WINDOWS = range(10, 14 * DAY + 1)
MAX_AMOUNT = 2**120 - 1

EDGES = {
    (Status.NONE, Status.OPEN),
    (Status.NONE, Status.ASSIGNED),  # hire
    (Status.OPEN, Status.ASSIGNED),
    (Status.OPEN, Status.CANCELLED),
    (Status.ASSIGNED, Status.ATTESTED),
    (Status.ASSIGNED, Status.EXPIRED),
    (Status.ATTESTED, Status.SETTLED),
}


class Refused(Exception):
    """The contract must revert with this reason."""


def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Refused(reason)


class Ledger(Counter[str]):
    """Credits by account."""

    def take(self, account: str) -> int:
        need(self[account] > 0, "ledger: nothing to withdraw")
        return self.pop(account)

    def check(self, account: str, amount: int) -> None:
        need(self[account] >= amount, "ledger: credit too low")


# ------------------------------------------------------------------------------------ staking


@dataclass
class Fund:
    """Assets with their shares; the virtual shares and the virtual asset belong to nobody."""

    assets: int = 0
    held: Counter[Hashable] = field(default_factory=Counter)
    unowned: int = 0
    """Shares that the rounding of rebases has taken from everybody; they belong to nobody."""
    dust_bound: int = 0
    """Most TPF wei that nobody's shares can have gathered (I-2)."""

    @property
    def shares(self) -> int:
        return sum(self.held.values()) + self.unowned

    @property
    def price(self) -> Fraction:
        return Fraction(self.assets + 1, self.shares + VIRTUAL_SHARES)

    def worth(self, shares: int) -> int:
        return floor(shares * self.price)

    def shares_for(self, assets: int) -> int:
        return floor(assets / self.price)

    def shares_gone(self, assets: int) -> int:
        return ceil(assets / self.price)

    def rounded(self) -> None:
        """A conversion rounds away less than one share or one wei, to everybody's profit."""
        self.dust_bound += ceil(self.price) + 1

    def join(self, holder: Hashable, assets: int) -> int:
        shares = self.shares_for(assets)
        self.rounded()
        self.held[holder] += shares
        self.assets += assets
        return shares

    def leave(self, holder: Hashable, shares: int) -> int:
        assets = self.worth(shares)
        self.rounded()
        self.held[holder] -= shares
        self.assets -= assets
        return assets

    def gain(self, assets: int) -> None:
        total = self.shares + VIRTUAL_SHARES
        self.dust_bound += ceil(Fraction(assets * (VIRTUAL_SHARES + self.unowned), total))
        self.assets += assets

    def lose(self, assets: int) -> None:
        """Take assets from all shares alike; where too many shares are left, divide them."""
        self.assets -= assets
        if not self.assets:
            self.held.clear()
            self.unowned = self.dust_bound = 0
        while self.shares > self.assets * MAX_RATIO:
            shares = self.shares // REBASE
            for holder, number in self.held.items():
                self.held[holder] = number // REBASE
            self.unowned = shares - sum(self.held.values())
            self.dust_bound += 1 + ceil(self.unowned * self.price)


@dataclass(frozen=True)
class Lock:
    amount: int
    expires_at: int


@dataclass
class Provider:
    operator: str
    payout: str
    per_order: int
    in_all: int
    commission: int
    commission_before: int
    commission_since: int
    endpoint: str
    active: Fund = field(default_factory=Fund)
    unbonding: Fund = field(default_factory=Fund)
    ready_at: dict[tuple[str, int], int] = field(default_factory=dict)
    """Open tickets (account, number) by the time from which they pay."""
    tickets: Counter[str] = field(default_factory=Counter)
    slashed_below_locks: bool = False
    """I-3 allows locks above the owner's assets after a slash only."""

    def commission_at(self, time: int) -> int:
        return self.commission if time >= self.commission_since else self.commission_before


class Staking:
    """Registry, pools and locks."""

    def __init__(self, p: Parameters, owner: str) -> None:
        self.p = p
        self.owner = owner
        self.manager_delay = p.unbonding + p.max_lock + MANAGER_MARGIN
        self.providers: dict[str, Provider] = {}
        self.managers: dict[str, tuple[int, int]] = {}
        self.locks: dict[tuple[str, str, bytes], Lock] = {}
        self.credits = Ledger()
        self.balance = 0
        """TPF received less TPF sent, by the rules alone."""
        self.burned = 0
        self.seized: Counter[str] = Counter()
        """TPF wei ever seized from a provider."""

    # Views

    def liabilities(self) -> int:
        """I-1: everything that somebody can claim, and dust."""
        pools = sum(p.active.assets + p.unbonding.assets for p in self.providers.values())
        return pools + self.credits.total()

    def provider_of(self, operator: str) -> str:
        found = [owner for owner, p in self.providers.items() if p.operator == operator]
        assert len(found) <= 1, "an operator signs for one owner only"
        return found[0] if found else ZERO_ADDRESS

    def locked(self, provider: str) -> int:
        return sum(lock.amount for key, lock in self.locks.items() if key[1] == provider)

    def owner_worth(self, provider: str) -> int:
        active = self.providers[provider].active
        return active.worth(active.held[provider])

    def _known(self, provider: str) -> Provider:
        need(provider in self.providers, "staking: not registered")
        return self.providers[provider]

    def _may(self, now: int, manager: str, permission: int) -> None:
        permissions, active_from = self.managers.get(manager, (0, 0))
        need(
            permissions & permission != 0 and now >= active_from,
            "staking: caller lacks the permission",
        )

    # Managers

    def announce_manager(self, now: int, sender: str, manager: str, permissions: int) -> None:
        need(sender == self.owner, "ownable: caller is not the owner")
        need(manager != ZERO_ADDRESS, "staking: zero manager")
        need(permissions != 0, "staking: no permissions")
        need(manager not in self.managers, "staking: manager exists")
        self.managers[manager] = (permissions, now + self.manager_delay)

    def remove_manager(self, sender: str, manager: str) -> None:
        need(sender == self.owner, "ownable: caller is not the owner")
        need(manager in self.managers, "staking: unknown manager")
        del self.managers[manager]

    # Registry

    def _bind(self, now: int, owner: str, operator: str, expires: int, signed: bool) -> None:
        need(now <= expires, "staking: consent expired")
        need(self.provider_of(operator) in (ZERO_ADDRESS, owner), "staking: operator is taken")
        need(signed, "staking: not the operator's consent")

    def register(
        self,
        now: int,
        sender: str,
        operator: str,
        payout: str,
        commission: int,
        per_order: int,
        in_all: int,
        endpoint: str,
        expires: int,
        signed: bool,
    ) -> None:
        need(sender not in self.providers, "staking: already registered")
        need(payout != ZERO_ADDRESS, "staking: zero payout")
        need(commission <= BPS, "staking: commission above 100 %")
        self._bind(now, sender, operator, expires, signed)
        self.providers[sender] = Provider(
            operator, payout, per_order, in_all, commission, commission, 0, endpoint
        )

    def set_operator(
        self, now: int, sender: str, operator: str, expires: int, signed: bool
    ) -> None:
        provider = self._known(sender)
        self._bind(now, sender, operator, expires, signed)
        provider.operator = operator

    def set_payout(self, sender: str, payout: str) -> None:
        provider = self._known(sender)
        need(payout != ZERO_ADDRESS, "staking: zero payout")
        provider.payout = payout

    def set_endpoint(self, sender: str, endpoint: str) -> None:
        self._known(sender).endpoint = endpoint

    def set_commission(self, now: int, sender: str, bps: int) -> None:
        provider = self._known(sender)
        need(bps <= BPS, "staking: commission above 100 %")
        in_force = provider.commission_at(now)
        if bps <= in_force:
            # At once, and for every epoch of the past that paid more.
            provider.commission_before = min(provider.commission_before, bps)
        else:
            waiting = now < provider.commission_since
            rested = now >= provider.commission_since + self.p.commission_delay
            need(waiting or rested, "staking: commission was raised too recently")
            if not waiting:
                provider.commission_before = in_force
            provider.commission_since = now + self.p.commission_delay
        provider.commission = bps

    def set_lock_limits(self, sender: str, per_order: int, in_all: int) -> None:
        provider = self._known(sender)
        provider.per_order, provider.in_all = per_order, in_all

    # Stake

    def delegate(self, sender: str, provider: str, amount: int) -> int:
        active = self._known(provider).active
        need(active.shares_for(amount) > 0, "staking: amount too small")
        self.balance += amount
        return active.join(sender, amount)

    def undelegate(self, now: int, sender: str, provider: str, shares: int) -> int:
        pool = self._known(provider)
        active = pool.active
        need(0 < shares <= active.held[sender], "staking: not that many shares")
        if sender == provider:
            after = Fund(active.assets, Counter(active.held), active.unowned)
            after.leave(sender, shares)
            need(
                after.worth(after.held[sender]) >= self.locked(provider), "staking: stake is locked"
            )
        number = pool.tickets[sender]
        pool.tickets[sender] += 1
        pool.unbonding.join((sender, number), active.leave(sender, shares))
        pool.ready_at[sender, number] = now + self.p.unbonding
        return number

    def withdraw_unbonded(self, now: int, sender: str, provider: str, number: int) -> int:
        pool = self.providers.get(provider)
        ticket = (sender, number)
        need(pool is not None and ticket in pool.ready_at, "staking: no such ticket")
        assert pool is not None
        need(now >= pool.ready_at[ticket], "staking: still unbonding")
        del pool.ready_at[ticket]
        assets = 0
        if ticket in pool.unbonding.held:
            assets = pool.unbonding.leave(ticket, pool.unbonding.held[ticket])
            del pool.unbonding.held[ticket]
        self.balance -= assets
        return assets

    def withdraw(self, sender: str) -> int:
        amount = self.credits.take(sender)
        self.balance -= amount
        return amount

    # Managers' calls

    def check_lock(
        self,
        now: int,
        manager: str,
        operator: str,
        id: bytes,
        amount: int,
        expires_at: int,
        min_stake: int,
    ) -> str:
        self._may(now, manager, LOCK)
        provider = self.provider_of(operator)
        need(provider != ZERO_ADDRESS, "staking: unknown operator")
        pool = self.providers[provider]
        need(pool.active.assets >= min_stake, "staking: stake too low")
        if amount == 0:
            return provider
        need(expires_at >= now, "staking: lock is over")
        need(expires_at <= now + self.p.max_lock, "staking: lock too long")
        need(amount <= pool.per_order, "staking: above the owner's limit per order")
        locked = self.locked(provider) + amount
        need(locked <= pool.in_all, "staking: above the owner's limit in all")
        need(self.owner_worth(provider) >= locked, "staking: own stake too low")
        need((manager, provider, id) not in self.locks, "staking: lock exists")
        return provider

    def lock(
        self,
        now: int,
        manager: str,
        operator: str,
        id: bytes,
        amount: int,
        expires_at: int,
        min_stake: int,
    ) -> str:
        provider = self.check_lock(now, manager, operator, id, amount, expires_at, min_stake)
        if amount:
            self.locks[manager, provider, id] = Lock(amount, expires_at)
        return provider

    def unlock(self, manager: str, provider: str, id: bytes) -> str:
        self.locks.pop((manager, provider, id), None)
        return self.providers[provider].payout if provider in self.providers else ZERO_ADDRESS

    def release(self, now: int, manager: str, provider: str, id: bytes) -> None:
        lock = self.locks.get((manager, provider, id))
        need(lock is not None, "staking: no such lock")
        assert lock is not None
        need(now > lock.expires_at, "staking: lock has not expired")
        del self.locks[manager, provider, id]

    def seize(
        self,
        now: int,
        manager: str,
        provider: str,
        id: bytes,
        victim: str,
        hunter: str,
        victim_bps: int,
        bounty_bps: int,
    ) -> int:
        need(victim_bps <= BPS, "staking: victim share above 100 %")
        need(bounty_bps <= BPS // 2, "staking: bounty above half")
        lock = self.locks.pop((manager, provider, id), None)
        if lock is None or now > lock.expires_at:
            return 0
        pool = self.providers[provider]
        active = pool.active
        taken = min(lock.amount, self.owner_worth(provider))
        pool.in_all -= min(pool.in_all, taken)
        self.seized[provider] += taken
        gone = active.shares_gone(taken)
        active.rounded()
        assert gone <= active.held[provider], "I-4: a seizure touches the owner's shares alone"
        active.held[provider] -= gone
        active.assets -= taken
        to_victim = floor(Fraction(taken * victim_bps, BPS))
        bounty = floor(Fraction((taken - to_victim) * bounty_bps, BPS))
        self.credits[victim] += to_victim
        self.credits[hunter] += bounty
        self._burn(taken - to_victim - bounty)
        return taken

    def slash(self, now: int, manager: str, provider: str, amount: int) -> int:
        self._may(now, manager, SLASH)
        pool = self._known(provider)
        stake = pool.active.assets + pool.unbonding.assets
        if stake == 0:
            return 0
        amount = min(amount, stake)
        from_unbonding = floor(Fraction(amount * pool.unbonding.assets, stake))
        pool.active.lose(amount - from_unbonding)
        if from_unbonding:
            pool.unbonding.lose(from_unbonding)
        self._burn(amount)
        pool.slashed_below_locks = self.owner_worth(provider) < self.locked(provider)
        return amount

    def reward(self, now: int, manager: str, provider: str, amount: int, earned_at: int) -> None:
        self._may(now, manager, REWARD)
        pool = self._known(provider)
        commission = amount
        if pool.active.shares >= MIN_REWARDED:
            commission = floor(Fraction(amount * pool.commission_at(earned_at), BPS))
            pool.active.gain(amount - commission)
        self.credits[pool.payout] += commission
        self.balance += amount

    def _burn(self, amount: int) -> None:
        self.burned += amount
        self.balance -= amount


# --------------------------------------------------------------------------------------- jobs


@dataclass
class Job:
    """One deal with everything it was made on; later parameters do not reach it (I-11)."""

    terms: Terms
    status: Status = Status.NONE
    provider: str = ZERO_ADDRESS
    assigned_at: int = 0
    price: int = 0
    record: Record | None = None
    collateral: int = 0
    allowed: tuple[str, ...] = ()
    paid_out: int = 0

    def move(self, status: Status) -> None:
        """I-10: along a drawn edge, or not at all."""
        assert (self.status, status) in EDGES, f"I-10: {self.status.name} -> {status.name}"
        self.status = status

    @property
    def order(self) -> Order:
        return self.terms.order

    @property
    def deadline(self) -> int:
        return self.assigned_at + self.order.duration

    @property
    def window_end(self) -> int:
        assert self.record is not None
        return self.record.attested_at + self.terms.challenge_window

    def price_now(self, now: int) -> int:
        order = self.order
        if now >= self.terms.posted_at + order.auction:
            return order.max_price
        passed = Fraction(now - self.terms.posted_at, order.auction)
        return order.start_price + floor((order.max_price - order.start_price) * passed)


class Jobs:
    """Orders and their escrow, over a Staking."""

    def __init__(
        self,
        p: Parameters,
        address: str,
        owner: str,
        guardian: str,
        treasury: str,
        staking: Staking,
    ) -> None:
        self.p = p
        self.address = address
        self.owner = owner
        self.guardian = guardian
        self.treasury = treasury
        self.staking = staking
        self.fee_bps = p.fee_bps
        self.window = p.challenge_window
        self.paused_until = 0
        self.next_pause = 0
        self.jobs: dict[bytes, Job] = {}
        self.credits = Ledger()
        self.fees = 0
        self.balance = 0
        self.used_quotes: set[tuple[str, int]] = set()
        self.scores: Counter[str] = Counter()

    # Views

    def liabilities(self) -> int:
        """I-1: open escrows, credits and fees."""
        return sum(map(self.escrow, self.jobs.values())) + self.credits.total() + self.fees

    def escrow(self, job: Job) -> int:
        """What the contract still holds for a job."""
        if job.status is Status.OPEN:
            return job.order.max_price
        return job.price if job.status in (Status.ASSIGNED, Status.ATTESTED) else 0

    def open_until(self, job: Job) -> int:
        return job.terms.posted_at + job.order.auction + self.p.open_margin

    def reserved_score(self, provider: str) -> int:
        running = (Status.ASSIGNED, Status.ATTESTED)
        return sum(
            job.order.min_score
            for job in self.jobs.values()
            if job.provider == provider and job.status in running
        )

    def _find(self, terms: Terms, status: Status, reason: str) -> Job:
        job = self.jobs.get(terms.job_id())
        need(job is not None and job.status is status, reason)
        assert job is not None
        return job

    # Money in and out

    def deposit(self, sender: str, amount: int) -> None:
        need(amount > 0, "jobs: zero amount")
        self.credits[sender] += amount
        self.balance += amount

    def withdraw(self, sender: str) -> int:
        amount = self.credits.take(sender)
        self.balance -= amount
        return amount

    def collect_fees(self) -> int:
        need(self.fees > 0, "jobs: no fees")
        amount, self.fees = self.fees, 0
        self.balance -= amount
        return amount

    # Orders

    def _not_paused(self, now: int) -> None:
        need(now >= self.paused_until, "guardian: orders are paused")

    def _check_open(self, now: int, sender: str, order: Order) -> Job:
        need(0 < order.max_price <= MAX_AMOUNT, "jobs: price out of bounds")
        need(order.collateral <= MAX_AMOUNT, "jobs: collateral out of bounds")
        need(order.duration > 0, "jobs: zero duration")
        life = order.duration + self.window + self.p.lock_margin
        need(life <= self.p.max_lock, "jobs: duration too long")
        terms = Terms(sender, now, self.window, self.fee_bps, order)
        need(terms.job_id() not in self.jobs, "jobs: exists")
        return Job(terms)

    def _check_credit(self, job: Job, from_credit: bool) -> None:
        if from_credit:
            self.credits.check(job.terms.requester, job.order.max_price)

    def _open(self, job: Job, from_credit: bool) -> bytes:
        if from_credit:
            self.credits[job.terms.requester] -= job.order.max_price
        else:
            self.balance += job.order.max_price
        id = job.terms.job_id()
        self.jobs[id] = job
        return id

    def _collateral(self, now: int, job: Job) -> tuple[int, int, int]:
        life = job.order.duration + job.terms.challenge_window + self.p.lock_margin
        return job.order.collateral, now + life, job.order.min_stake

    def _assign(self, now: int, job: Job, operator: str, price: int) -> None:
        id = job.terms.job_id()
        job.provider = self.staking.lock(
            now, self.address, operator, id, *self._collateral(now, job)
        )
        job.assigned_at = now
        job.price = price
        job.move(Status.ASSIGNED)

    def post(
        self, now: int, sender: str, order: Order, from_credit: bool, allowed: tuple[str, ...]
    ) -> bytes:
        self._not_paused(now)
        need(order.auction <= MAX_AUCTION, "jobs: auction too long")
        job = replace(self._check_open(now, sender, order), allowed=allowed)
        self._check_credit(job, from_credit)
        job.move(Status.OPEN)
        return self._open(job, from_credit)

    def hire(self, now: int, sender: str, quote: Quote, signed: bool, from_credit: bool) -> bytes:
        self._not_paused(now)
        need(now <= quote.expires, "jobs: quote expired")
        need(quote.requester in (ZERO_ADDRESS, sender), "jobs: quote is for another requester")
        need(signed, "jobs: not the operator's quote")
        nonce = (quote.operator, quote.nonce)
        need(nonce not in self.used_quotes, "jobs: quote is used")
        job = self._check_open(now, sender, quote.order())
        id = job.terms.job_id()
        self.staking.check_lock(now, self.address, quote.operator, id, *self._collateral(now, job))
        self._check_credit(job, from_credit)
        self.used_quotes.add(nonce)
        self._assign(now, job, quote.operator, quote.price)
        return self._open(job, from_credit)

    def cancel_quotes(self, sender: str, word: int, mask: int) -> None:
        self.used_quotes |= {(sender, word * 256 + bit) for bit in range(256) if mask >> bit & 1}

    def accept(self, now: int, sender: str, terms: Terms) -> int:
        self._not_paused(now)
        job = self._find(terms, Status.OPEN, "jobs: not open")
        need(now <= self.open_until(job), "jobs: no longer open")
        id = terms.job_id()
        provider = self.staking.check_lock(
            now, self.address, sender, id, *self._collateral(now, job)
        )
        if job.order.allow_root != ZERO_WORD:
            need(provider in job.allowed, "jobs: provider not allowed")
        wanted = self.reserved_score(provider) + job.order.min_score
        if job.order.min_score:
            need(self.scores[provider] >= wanted, "jobs: score too low")
        price = job.price_now(now)
        self._assign(now, job, sender, price)
        self.credits[terms.requester] += job.order.max_price - price
        job.paid_out += job.order.max_price - price
        return price

    def attest(self, now: int, terms: Terms, attestation: bytes, signer: str) -> None:
        job = self._find(terms, Status.ASSIGNED, "jobs: not assigned")
        need(now <= job.deadline, "jobs: deadline passed")
        need(
            signer == self.staking.providers[job.provider].operator,
            "jobs: not the operator's attestation",
        )
        job.record = Record(job.provider, job.assigned_at, now, attestation)
        job.move(Status.ATTESTED)

    # Exits

    def approve(self, sender: str, terms: Terms, record: Record) -> None:
        need(sender == terms.requester, "jobs: caller is not the requester")
        self._settle(terms, record)

    def finalize(self, now: int, terms: Terms, record: Record) -> None:
        need(now > record.attested_at + terms.challenge_window, "jobs: challenge window is open")
        self._settle(terms, record)

    def _settle(self, terms: Terms, record: Record) -> None:
        job = self._find(terms, Status.ATTESTED, "jobs: not attested")
        need(record == job.record, "jobs: not the attested record")
        fee = floor(Fraction(job.price * job.terms.fee_bps, BPS))
        payout = self.staking.unlock(self.address, job.provider, terms.job_id())
        self.fees += fee
        self.credits[payout] += job.price - fee
        self._end(job, Status.SETTLED, job.price)

    def expire(self, now: int, sender: str, terms: Terms) -> None:
        job = self._find(terms, Status.ASSIGNED, "jobs: not assigned")
        need(now > job.deadline, "jobs: deadline not passed")
        self.credits[terms.requester] += job.price
        self.staking.seize(
            now,
            self.address,
            job.provider,
            terms.job_id(),
            terms.requester,
            sender,
            self.p.victim_bps,
            self.p.bounty_bps,
        )
        self._end(job, Status.EXPIRED, job.price)

    def cancel(self, now: int, sender: str, terms: Terms) -> None:
        job = self._find(terms, Status.OPEN, "jobs: not open")
        need(sender == terms.requester or now > self.open_until(job), "jobs: still open")
        self.credits[terms.requester] += job.order.max_price
        self._end(job, Status.CANCELLED, job.order.max_price)

    def _end(self, job: Job, status: Status, paid: int) -> None:
        job.move(status)
        job.paid_out += paid
        assert job.paid_out == job.order.max_price, "I-5: payout + refund + fee = escrow"

    # Parameters

    def _owner_only(self, sender: str) -> None:
        need(sender == self.owner, "ownable: caller is not the owner")

    def set_fee(self, sender: str, bps: int) -> None:
        self._owner_only(sender)
        need(bps <= MAX_FEE, "jobs: fee out of bounds")
        self.fee_bps = bps

    def set_challenge_window(self, sender: str, seconds: int) -> None:
        self._owner_only(sender)
        need(seconds in WINDOWS, "jobs: challenge window out of bounds")
        self.window = seconds

    def set_treasury(self, sender: str, treasury: str) -> None:
        self._owner_only(sender)
        need(treasury != ZERO_ADDRESS, "jobs: zero treasury")
        self.treasury = treasury

    def set_guardian(self, sender: str, guardian: str) -> None:
        self._owner_only(sender)
        self.guardian = guardian

    def pause(self, now: int, sender: str, duration: int) -> None:
        need(sender == self.guardian, "guardian: caller is not the guardian")
        need(0 < duration <= MAX_PAUSE, "guardian: pause out of bounds")
        need(now >= self.next_pause, "guardian: paused too recently")
        self.paused_until = now + duration
        self.next_pause = self.paused_until + MAX_PAUSE

    def unpause(self, sender: str) -> None:
        need(sender in (self.guardian, self.owner), "guardian: caller is not the guardian")
        self.paused_until = 0
