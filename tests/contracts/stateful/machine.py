# SPDX-License-Identifier: Apache-2.0
"""The market under random use: what it promises, and whether the books keep to it.

The machine knows promises, not code: who may do what and when, and what each rule moves from whom
to whom. It reads what everybody owns from the contracts' views (`wealth.Books`) before and after
every call; what no rule names must not have moved (I-12). It knows no shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_utils.crypto import keccak

from teraproof.protocol.terms import ZERO_ADDRESS
from tests.contracts.stateful.driver import Choices, Tally
from tests.contracts.stateful.wealth import Books, Key, Reader, told
from tests.contracts.stateful.world import HOLDERS, JURORS, World, holders_of, short

BPS = 10_000
FAR = 2**64 - 1
# A reward reaches its stake within a millionth (I-13).
MILLION = 10**6
# One share never costs more (TPF wei): no rounding is above a wei or two.
COARSE = 1


class Why:
    """Promised conditions of a call; those that do not hold name the reasons it may give."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.unsure = False

    def need(self, holds: object, reason: str) -> None:
        if not holds:
            self.reasons.append(reason)


class Rule:
    """What a call moves: amounts by key, and how far off rounding may be."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.moved: dict[Key, int] = {}
        self.loose: dict[Key, int] = {}
        self.cashed: set[Key] = set()
        """Tickets that end."""
        self.claimed = 0
        """TPF wei that are minted for capacity."""

    def at(self, key: Key) -> int:
        """An amount as it should be by now."""
        return self.books[key] + self.moved.get(key, 0)

    def add(self, key: Key, amount: int, loose: int = 0) -> None:
        self.moved[key] = self.moved.get(key, 0) + amount
        if loose:
            self.loose[key] = self.loose.get(key, 0) + loose

    def move(self, source: Key, target: Key, amount: int) -> None:
        self.add(source, -amount)
        self.add(target, amount)


@dataclass
class Provider:
    operator: str
    payout: str
    commission: int
    raised: int
    raised_from: int
    per_order: int
    in_all: int
    slashed: bool = False
    """Locks may exceed the owner's assets after a slash (I-3)."""
    rounded: int = 0
    """And by the rounding of each seizure, against the owner, which is a wei at most."""

    def commission_at(self, time: int) -> int:
        return self.raised if time >= self.raised_from else self.commission


@dataclass(frozen=True)
class Manager:
    permissions: int
    active_from: int
    removed_at: int = 0


@dataclass(frozen=True)
class Lock:
    amount: int
    expires_at: int
    made_at: int


@dataclass
class Hold:
    """A provider's unsettled epoch."""

    manager: str
    commission: int
    """In force at the last commit."""
    since: int
    backing: dict[str, int]
    """Active stake by account at the last commit."""
    calls: int = 0
    """That have rounded since."""


@dataclass
class Core:
    """State and tools that all actions share."""

    world: World
    choices: Choices = field(default_factory=lambda: Choices(0))
    tally: Tally = field(default_factory=Tally)
    notes: list[str] | None = None

    def __post_init__(self) -> None:
        world = self.world
        self.chain = world.chain
        self.p = world.suite.parameters
        self._kept = self.chain.snapshot()
        self.addresses = world.chain.addresses
        self.jobs_address = self.addresses["jobs"]
        self.benchmark_address = self.addresses["benchmark"]
        self.timelock = world.suite.owner
        self.reader = Reader(world)
        self.providers: dict[str, Provider] = {}
        self.next_consent: Counter[str] = Counter()
        self.managers = {
            address: Manager(bits, world.start) for address, bits in world.suite.managers.items()
        }
        self.locks: dict[tuple[str, str, bytes], Lock] = {}
        self.tickets: dict[Key, int] = {}
        """Open tickets by the time from which they pay."""
        self.ticket_numbers: Counter[tuple[str, str]] = Counter()
        self.holds: dict[str, Hold] = {}
        self.seized: Counter[str] = Counter()
        self.donated: Counter[str] = Counter()
        self.escrows = 0
        self.fresh = 0
        self.rounded: Counter[str] = Counter()
        """Calls that may have left dust in a pool."""
        self.rewarded: Counter[str] = Counter()
        self.value: Any = None
        self.books = self.reader.read()
        self.elsewhere = self.books["supply",] - self.books["staking",] - self.books.total("tpf")

    def end(self) -> None:
        self.chain.revert(self._kept)

    def audit(self) -> None:
        """Every view agrees with the books; cheap enough now and then."""
        self.reader.audit()

    # ------------------------------------------------------------------------------- tools

    @property
    def now(self) -> int:
        return self.chain.now

    def note(self, text: str) -> None:
        if self.notes is not None:
            self.notes.append(text)

    def go_to(self, time: int) -> None:
        if time > self.now:
            self.note(f"{self.now}: go to {time} (+{time - self.now})")
            self.chain.now = time

    def maybe_go(self, probability: float, time: int) -> None:
        """Wait for a time, but seldom past what a running epoch waits for."""
        if self.chance(probability) and (time <= self.busy_until() or self.chance(0.06)):
            self.go_to(time)

    def busy_until(self) -> int:
        """Up to when a jump misses nothing."""
        return FAR

    def number(self) -> int:
        """A number not used before in this example."""
        self.fresh += 1
        return self.fresh

    def word(self, label: str) -> bytes:
        return bytes(keccak(text=f"{label} {self.number()}"))

    def pick(self, options: Sequence[Any]) -> Any:
        return self.choices.pick(options)

    def chance(self, probability: float) -> bool:
        return self.choices.chance(probability)

    @property
    def registered(self) -> list[str]:
        """All but those that are jurors and nothing else."""
        return [provider for provider in self.providers if provider not in JURORS]

    def view(self, contract: str, name: str, *args: Any) -> Any:
        return self.chain.view(contract, name, *args)

    def operator_of(self, provider: str) -> str:
        return self.providers[provider].operator

    def provider_of(self, operator: str) -> str:
        found = [owner for owner, p in self.providers.items() if p.operator == operator]
        return found[0] if found else ZERO_ADDRESS

    def may(self, manager: str, permission: int) -> bool:
        found = self.managers.get(manager)
        return bool(
            found
            and found.permissions & permission
            and not found.removed_at
            and self.now >= found.active_from
        )

    def counts(self, hold: Hold) -> bool:
        """A hold counts while its manager is listed, or until UNBONDING after its removal."""
        found = self.managers.get(hold.manager)
        if found is None or hold.since < found.active_from:
            return False
        return not found.removed_at or self.now < found.removed_at + self.p.unbonding

    def held(self, provider: str) -> Hold | None:
        """The hold in force."""
        hold = self.holds.get(provider)
        return hold if hold and self.counts(hold) else None

    def locked(self, provider: str) -> int:
        return sum(lock.amount for key, lock in self.locks.items() if key[1] == provider)

    # ------------------------------------------------------------------------------- calls

    def act(
        self,
        target: str,
        args: tuple[Any, ...],
        sender: str,
        why: Why,
        rule: Rule | None = None,
        *,
        hostile: bool = False,
        label: str = "",
    ) -> bool:
        """Do one thing; True if it went through. It must exactly if `why` holds nothing.

        `hostile` marks a try that is refused in every state; `label` counts by another name.
        """
        contract, function = target.split(".")
        label = label or target
        if self.notes is not None:
            self.note(f"{self.now}: {short(sender)} {target}{short(args)}")
        before = self.books
        outcome = self.chain.send(contract, function, args, sender)
        self.value, reason = outcome.value, outcome.reason
        if reason is not None:
            self.note(f"    refused: {reason}")
            (self.tally.hostile if hostile else self.tally.refused)[label] += 1
            assert why.reasons or why.unsure, f"{target} is refused: {reason}"
            known = why.unsure or any(part in reason for part in why.reasons)
            assert known, f"{target} is refused for {reason!r}, not for {why.reasons}"
            return False
        self.tally.ok[label] += 1
        assert not why.reasons, f"{target} goes through, against {why.reasons}"
        return self.settle_books(target, before, rule or Rule(before))

    def settle_books(self, target: str, before: Books, rule: Rule) -> bool:
        """Read the books again and hold them against the rule."""
        self.expected = rule
        for key in rule.moved:
            if key[0] == "ticket" and key not in self.tickets:
                self.tickets[key] = self.now + self.p.unbonding
        for key in rule.cashed:
            del self.tickets[key]
        self.reader.follow(self.tickets)
        self.books = self.reader.read()
        for key in self.books.changed(before) | rule.moved.keys():
            self.compare(target, key, before, rule)
        self.conserved()
        return True

    def compare(self, target: str, key: Key, before: Books, rule: Rule) -> None:
        moved = self.books[key] - before[key]
        wanted = rule.moved.get(key, 0)
        if key in rule.cashed:
            return
        off = abs(moved - wanted)
        if not off:
            return
        allowed = rule.loose.get(key, 0)
        if key[0] in ("stake", "ticket", "active", "unbonding"):
            leaving = key[0] in ("ticket", "unbonding")
            provider = key[1]
            prices = (b.price(provider, leaving=leaving) for b in (before, self.books))
            allowed += max(prices) + 1
        assert off <= allowed, f"I-12: {target} moves {told(key)} |by {moved}, the rule by {wanted}"

    def conserved(self) -> None:
        """I-1 for both contracts and tokens, I-3 and the dust, by the views."""
        books = self.books
        owed = books.total("pools") + self.donated["tpf"]
        assert books["staking",] == owed, f"I-1: TPF |{books['staking',]} against {owed}"
        everywhere = books["staking",] + books.total("tpf") + self.elsewhere
        assert books["supply",] == everywhere, "I-1: the supply of TPF"
        usd = self.escrows + books.total("owed") + books["fees",] + self.donated["usd"]
        assert books["jobs",] == usd, f"I-1: payment token |{books['jobs',]} against {usd}"
        for provider, state in self.providers.items():
            own, locked = books["stake", provider, provider], books["locked", provider]
            assert locked == self.locked(provider), "I-3: what is locked"
            state.slashed &= locked > own
            enough = locked <= own + state.rounded
            assert enough or state.slashed, "I-3: locks exceed the owner's assets"
            self.shared_out(provider)

    def shared_out(self, provider: str) -> None:
        """What a pool holds belongs to its holders, but for dust."""
        books = self.books
        owned = sum(books["stake", provider, account] for account in holders_of(provider))
        dust = books["active", provider] - owned
        assert dust >= 0, "I-2: a pool owes more than it has"
        bound = (self.rounded[provider] + 3) * (books.price(provider) + 1)
        assert dust <= bound + self.slack(provider), f"I-2: dust in a pool |{dust} of {bound}"
        assert books.price(provider) <= COARSE, "a share has become coarse"
        self.tally.notes["most dust in a pool, wei"] = max(
            self.tally.notes["most dust in a pool, wei"], dust
        )

    def slack(self, provider: str) -> int:
        """Dust that rewards may have left: a millionth of each."""
        return self.rewarded[provider] // MILLION

    # ---------------------------------------------------------------------------- actions

    def moments(self) -> set[int]:
        """Times at which something changes."""
        times = {lock.expires_at for lock in self.locks.values()}
        times |= set(self.tickets.values())
        times |= {p.raised_from for p in self.providers.values()}
        times |= {m.active_from for m in self.managers.values()}
        return times

    def check(self) -> None:
        """After every step."""
        for provider, hold in self.holds.items():
            if not self.counts(hold):
                continue
            for account in HOLDERS:
                stake = self.books["stake", provider, account]
                most = hold.backing.get(account, 0) + hold.calls * (self.books.price(provider) + 1)
                assert stake <= most, f"I-13: {short(account)} joins a running epoch |{stake}"
