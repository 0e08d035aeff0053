# SPDX-License-Identifier: Apache-2.0
"""What everybody owns, as the contracts' own views say, and what a step may have changed of it.

I-12 is checked by it after every step. A rule says which amounts change and by how much; whatever
it does not name must be as it was, but for rounding: at most the price of a share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.contracts.codec import address_word
from tests.contracts.stateful.lens import Lens, first_words, words
from tests.contracts.stateful.world import BURNED, PEOPLE, PROVIDERS, World, holders_of, short

# ("stake", provider, account) and so on; see `Books`.
Key = tuple[Any, ...]
VIRTUAL_SHARES = 1_000


KINDS: dict[str, tuple[Key, ...]] = {
    "tpf": tuple(("tpf", account) for account in PEOPLE),
    "credit": tuple(("credit", account) for account in PEOPLE),
    "owed": tuple(("owed", account) for account in (*PEOPLE, BURNED)),
    "entry": tuple(("entry", p, a) for p in PROVIDERS for a in holders_of(p)),
}
KINDS["pools"] = (
    *(("active", provider) for provider in PROVIDERS),
    *(("unbonding", provider) for provider in PROVIDERS),
    *KINDS["entry"],
    *KINDS["credit"],
)


class Books:
    """All amounts at one moment.

    ("tpf", account)              wallet            ("usd", account)       wallet
    ("credit", account)           of Staking        ("owed", account)      credit of Jobs
    ("stake", provider, account)  at today's price  ("entry", provider, account)
    ("ticket", provider, account, number)           at today's price
    ("active", provider) ("unbonding", provider)    what the pool holds
    ("locked", provider)                            ("fees",)
    ("supply",) ("staking",) ("jobs",)              all TPF; what the two contracts hold
    """

    def __init__(self, values: dict[Key, int], shares: dict[str, tuple[int, int]]) -> None:
        self._values = values
        self.shares = shares
        """Provider -> active shares, unbonding shares."""

    def __getitem__(self, key: Key) -> int:
        return self._values.get(key, 0)

    def items(self) -> Iterator[tuple[Key, int]]:
        return iter(self._values.items())

    def total(self, kind: str) -> int:
        """Of all amounts of a kind; `pools` is all that Staking owes."""
        values = self._values
        return sum([values[key] for key in KINDS[kind]])

    def price(self, provider: str, *, leaving: bool = False) -> int:
        """Of one share, rounded up; TPF wei. The virtual ones count."""
        assets = self["unbonding" if leaving else "active", provider]
        return -(-(assets + 1) // (self.shares[provider][leaving] + VIRTUAL_SHARES))

    def changed(self, before: Books) -> set[Key]:
        """The amounts that differ; a ticket that only one has counts."""
        mine, other = self._values, before._values
        if mine is other:
            return set()
        found = {key for key, value in mine.items() if other.get(key, 0) != value}
        return found | {key for key, value in other.items() if value and key not in mine}


class Reader:
    """Keeps the books by the contracts' views, and reads again only what may have changed.

    Storage words tell that: a view is asked again when a word behind it differs. `audit` asks
    every view, so that one which changes by something else is found out.
    """

    def __init__(self, world: World) -> None:
        self.lens: Lens = world.lens
        self.chain = world.chain
        self._storage = world.chain.evm.storage
        self._calls = dict(calls(world))
        self._tickets: set[Key] = set()
        self._watched: list[tuple[str, int]] = []
        self._keys: list[tuple[Key, ...]] = []
        for keys, place in self._watch(world):
            self._watched.append(place)
            self._keys.append(keys)
        self._words = self._read_words()
        self._values: dict[Key, int] = {}
        self._shares: dict[str, tuple[int, int]] = {}
        self._ask(set(self._calls))

    def _watch(self, world: World) -> Iterator[tuple[tuple[Key, ...], tuple[str, int]]]:
        """Storage words and the amounts behind them."""
        slot, treasury = world.chain.slot, world.suite.treasury
        for account in PEOPLE:
            word = address_word(account)
            yield (("tpf", account),), slot("token", "erc20.balanceOf", word)
            yield (("credit", account),), slot("staking", "ledger.credits", word)
        for account in (*PEOPLE, treasury):
            word = address_word(account)
            yield (("usd", account),), slot("payment", "erc20.balanceOf", word)
        for account in (*PEOPLE, BURNED):
            yield (("owed", account),), slot("jobs", "ledger.credits", address_word(account))
        addresses = world.chain.addresses
        yield (("supply",),), slot("token", "erc20.totalSupply")
        word = address_word(addresses["staking"])
        yield (("staking",),), slot("token", "erc20.balanceOf", word)
        word = address_word(addresses["jobs"])
        yield (("jobs",),), slot("payment", "erc20.balanceOf", word)
        yield (("fees",),), slot("jobs", "escrow._fees")
        for provider in PROVIDERS:
            first = address_word(provider)
            stakes: tuple[Key, ...] = tuple(("stake", provider, a) for a in holders_of(provider))
            pool = (*stakes, ("pool", provider))
            yield pool, slot("staking", "pools.assets", first)
            yield pool, slot("staking", "pools.active_shares", first)
            yield (("pool", provider),), slot("staking", "pools.leaving", first)
            yield pool, slot("staking", "pools.generations.ages", first)
            for account in holders_of(provider):
                word = address_word(account)
                key: Key = ("stake", provider, account)
                yield (key,), slot("staking", "pools.accounts", first, word)
                key = ("entry", provider, account)
                yield (key,), slot("staking", "stakes.entries", first, word)

    def _read_words(self) -> list[int]:
        storage = self._storage
        return [storage(address, slot) for address, slot in self._watched]

    def _ask(self, keys: set[Key]) -> None:
        """Read these amounts by their views."""
        values, order = self._values, list(keys)
        answer = self.lens.look(b"".join([self._calls[key] for key in order]))
        firsts = first_words(answer)
        for n, (key, value) in enumerate(zip(order, firsts, strict=True)):
            if key[0] == "pool":
                provider = key[1]
                active, locked, shares, _, unbonding, leaving = words(answer, n, 6)
                values["active", provider] = active
                values["locked", provider] = locked
                values["unbonding", provider] = unbonding
                self._shares[provider] = shares, leaving
            else:
                # A ticket: shares, assets, the time at which it is ready.
                values[key] = words(answer, n, 2)[1] if key[0] == "ticket" else value

    def follow(self, tickets: Mapping[Key, int]) -> None:
        """The tickets that are open from now on, as ("ticket", provider, account, number)."""
        if tickets.keys() == self._tickets:
            return
        for key in self._tickets - tickets.keys():
            del self._calls[key]
            self._values = {k: v for k, v in self._values.items() if k != key}
        for key in tickets.keys() - self._tickets:
            self._calls[key] = self.lens.record("staking", "ticket", *key[1:])
        self._tickets = set(tickets)

    def read(self) -> Books:
        now = self._read_words()
        if now != self._words:
            changed: set[Key] = set()
            for keys, new, old in zip(self._keys, now, self._words, strict=True):
                if new != old:
                    changed.update(keys)
            pools = {key[1] for key in changed if key[0] == "pool"}
            changed |= {key for key in self._tickets if key[1] in pools}
            self._words = now
            self._values, self._shares = dict(self._values), dict(self._shares)
            self._ask(changed)
        return Books(self._values, self._shares)

    def audit(self) -> None:
        """Every view says what the books say."""
        kept, shares = self._values, self._shares
        self._values, self._shares = {}, {}
        self._ask(set(self._calls))
        assert self._values == kept and self._shares == shares, "a view changed by itself"


def calls(world: World) -> Iterator[tuple[Key, bytes]]:
    """The view behind every amount."""
    record, treasury, addresses = world.lens.record, world.suite.treasury, world.chain.addresses
    for account in PEOPLE:
        yield ("tpf", account), record("token", "balanceOf", account)
        yield ("credit", account), record("staking", "credit_of", account)
    for account in (*PEOPLE, treasury):
        yield ("usd", account), record("payment", "balanceOf", account)
    for account in (*PEOPLE, BURNED):
        yield ("owed", account), record("jobs", "credit_of", account)
    for provider in PROVIDERS:
        yield ("pool", provider), record("staking", "pool", provider)
        for account in holders_of(provider):
            yield ("stake", provider, account), record("staking", "assets_of", provider, account)
            yield ("entry", provider, account), record("staking", "entry_of", provider, account)
    yield ("supply",), record("token", "totalSupply")
    yield ("staking",), record("token", "balanceOf", addresses["staking"])
    yield ("jobs",), record("payment", "balanceOf", addresses["jobs"])
    yield ("fees",), record("jobs", "accrued_fees")


def told(key: Key) -> str:
    return " ".join(map(short, key))
