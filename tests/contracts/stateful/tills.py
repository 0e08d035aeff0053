# SPDX-License-Identifier: Apache-2.0
"""Payment channels under random use by honest, hostile and dead people.

The machine knows promises, not code. Of each channel it knows what was paid in, what its payer has
signed for, and what has left by which rule. After every call it holds the wallets of all people and
the contract's views against that: what no rule names has not moved (I-12), what the contract holds
is what the channels come to (I-1), and a receiver has at most what its payer has signed (I-9).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from teraproof.protocol.channels import (
    ChannelConfig,
    Refund,
    Voucher,
    VoucherClaim,
    channel_id,
    channels_domain,
    claim_batch,
)
from teraproof.protocol.messages import Domain
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.contracts.deploy import DAY, USD
from tests.contracts.revm import Revm
from tests.contracts.stateful.driver import Choices, Tally, action
from tests.contracts.stateful.machine import Why
from tests.contracts.stateful.world import (
    JUROR_OPERATORS,
    OPERATORS,
    STARTED,
    STRANGER,
    UNLIMITED,
    short,
    signature,
)

PAYERS = tuple(key.address for key in OPERATORS[:2])
KEYS = tuple(key.address for key in OPERATORS[2:4])
"""Sign the vouchers of the payers."""
AUTHORIZERS = tuple(key.address for key in OPERATORS[4:6])
RECEIVERS = tuple(key.address for key in JUROR_OPERATORS[:2])
"""Of some channels one of them claims for the other."""
PEOPLE = (*PAYERS, *KEYS, *AUTHORIZERS, *RECEIVERS, STRANGER)
TOKENS = ("dollar", "other")
DELAYS = (900, DAY, 30 * DAY)
CHANNELS = 6
CHAIN_ID = 1


@dataclass
class Till:
    """What is true of one channel, whatever the contract says."""

    config: ChannelConfig
    id: bytes
    token: str
    paid_in: int = 0
    given_back: int = 0
    claimed: int = 0
    signed: int = 0
    """The payer's last word: the highest voucher."""
    asked: int = 0
    """Of a pending withdrawal."""
    since: int = 0
    refunds: int = 0
    vouchers: list[int] = field(default_factory=list)

    @property
    def balance(self) -> int:
        return self.paid_in - self.given_back

    @property
    def unclaimed(self) -> int:
        return self.balance - self.claimed

    @property
    def signer(self) -> str:
        """Who signs its vouchers: without an authorizer the payer."""
        authorizer = self.config.payer_authorizer
        return self.config.payer if authorizer == ZERO_ADDRESS else authorizer

    @property
    def claimers(self) -> tuple[str, str]:
        """Who may claim, and give back."""
        return self.config.receiver, self.config.receiver_authorizer


@dataclass(frozen=True)
class Tillworld:
    chain: Revm
    domain: Domain


@cache
def tillworld() -> Tillworld:
    """Deployed once a process."""
    return build()


def build() -> Tillworld:
    """Two tokens, the contract, and a collector that brings what it is told to."""
    chain = Revm(STARTED)
    channels = chain.deploy("Channels", alias="channels")
    collector = chain.deploy("mocks/Collector", alias="collector")
    for token in TOKENS:
        made = chain.deploy("testnet/PaymentToken", alias=token)
        for payer in PAYERS:
            made.mint(payer, 10**9 * USD)
            made.approve(collector.address, UNLIMITED, sender=payer)
    chain.sent = chain.reverted = 0
    return Tillworld(chain, channels_domain(CHAIN_ID, channels.address))


class Tills:
    """Two payers, two receivers with their operators, two tokens, a stranger."""

    def __init__(self) -> None:
        self.world = tillworld()
        self.chain, self.domain = self.world.chain, self.world.domain
        self._kept = self.chain.snapshot()
        self.choices, self.tally = Choices(0), Tally()
        self.notes: list[str] | None = None
        self.tills: list[Till] = []
        self.settled: Counter[tuple[str, str]] = Counter()
        self.owed: Counter[tuple[str, str]] = Counter()
        """Claimed and not settled, by receiver and token."""
        self.donated: Counter[str] = Counter()
        self.dead: set[str] = set()
        self.wallets = self.read()

    # ------------------------------------------------------------------------------- tools

    @property
    def now(self) -> int:
        return self.chain.now

    def note(self, text: str) -> None:
        if self.notes is not None:
            self.notes.append(text)

    def end(self) -> None:
        self.chain.revert(self._kept)

    def pick(self, options: Any) -> Any:
        return self.choices.pick(options)

    def go_to(self, time: int) -> None:
        if time > self.now:
            self.note(f"{self.now}: go to {time} (+{time - self.now})")
            self.chain.now = time

    def view(self, name: str, *args: Any) -> Any:
        return self.chain.view("channels", name, *args)

    def read(self) -> Counter[tuple[str, str]]:
        """What everybody has of each token."""
        channels = self.chain.addresses["channels"]
        return Counter(
            {
                (one, token): self.chain.view(token, "balanceOf", one)
                for token in TOKENS
                for one in (*PEOPLE, channels)
            }
        )

    def call(
        self, name: str, args: tuple[Any, ...], sender: str, why: Why, *moved: tuple[str, str, int]
    ) -> bool:
        """One call; it goes through exactly if `why` names nothing.

        `moved` says who gets how much of which token from the contract; negative: gives.
        """
        self.note(f"{self.now}: {short(sender)} {name}{short(args)}")
        outcome = self.chain.send("channels", name, args, sender)
        if outcome.reason is not None:
            self.note(f"    refused: {outcome.reason}")
            self.tally.refused[f"channels.{name}"] += 1
            assert why.reasons, f"channels.{name} is refused: {outcome.reason}"
            known = any(part == outcome.reason for part in why.reasons)
            assert known, f"channels.{name} is refused for {outcome.reason!r}, not {why.reasons}"
            return False
        self.tally.ok[f"channels.{name}"] += 1
        assert not why.reasons, f"channels.{name} goes through, against {why.reasons}"
        wanted = self.wallets.copy()
        for one, token, amount in moved:
            wanted[one, token] += amount
            wanted[self.chain.addresses["channels"], token] -= amount
        self.wallets = self.read()
        for key, has in self.wallets.items():
            assert has == wanted[key], (
                f"I-12: {name} moves {short(key[0])} |to {has}, the rule to {wanted[key]}"
            )
        return True

    # ------------------------------------------------------------------------------- books

    def check(self) -> None:
        for token in TOKENS:
            mine = [till for till in self.tills if till.token == token]
            settled = sum(n for (_, one), n in self.settled.items() if one == token)
            held = self.wallets[self.chain.addresses["channels"], token]
            books = sum(till.balance for till in mine) - settled + self.donated[token]
            assert held == books, f"I-1: {token}: {held} are there, the books say {books}"
        for till in self.tills:
            assert till.claimed <= min(till.signed, till.balance), "I-9: claimed above what is due"

    def audit(self) -> None:
        """Every view against what is true."""
        for till in self.tills:
            views = self.view("channels", till.id), self.view("pendingWithdrawals", till.id)
            assert tuple(views[0]) == (till.balance, till.claimed), f"a channel |{views[0]}"
            assert tuple(views[1]) == (till.asked, till.since), f"a withdrawal |{views[1]}"
            assert self.view("refundNonce", till.id) == till.refunds, "a nonce"
        for receiver in RECEIVERS:
            for token in TOKENS:
                found = tuple(self.view("receivers", receiver, self.chain.addresses[token]))
                settled = self.settled[receiver, token]
                assert found == (settled + self.owed[receiver, token], settled), "a receiver"

    # ------------------------------------------------------------------------------- money in

    def a_till(self) -> Till:
        if len(self.tills) < CHANNELS and (not self.tills or self.choices.chance(0.4)):
            side, payer = self.pick((0, 1)), self.pick((0, 1))
            token = self.pick(TOKENS)
            config = ChannelConfig(
                payer=PAYERS[payer],
                payer_authorizer=self.pick((KEYS[payer], KEYS[payer], ZERO_ADDRESS)),
                receiver=RECEIVERS[side],
                receiver_authorizer=self.pick((AUTHORIZERS[side], RECEIVERS[1 - side])),
                token=self.chain.addresses[token],
                withdraw_delay=self.pick(DELAYS),
                salt=len(self.tills).to_bytes(32, "big"),
            )
            found = channel_id(CHAIN_ID, config, self.domain.contract)
            self.tills.append(Till(config, found, token))
            return self.tills[-1]
        return self.choices.pick(self.tills)

    @action(6)
    def deposit(self) -> None:
        till, why = self.a_till(), Why()
        amount = self.choices.log(1, 1_000 * USD)
        surplus = self.pick((0, 0, 0, 0, 0, 1, -1, -amount))
        self.chain.send("collector", "bring", (surplus,), STRANGER)
        why.need(surplus == 0, "channels: deposit not collected")
        collector = self.chain.addresses["collector"]
        args = (till.config.abi_tuple(), amount, collector, b"")
        gives = (till.config.payer, till.token, -amount)
        if self.call("deposit", args, self.pick((*PEOPLE,)), why, gives):
            till.paid_in += amount

    @action(1, lambda machine: machine.tills)
    def donate(self) -> None:
        """Tokens that no channel brings are nobody's."""
        token, amount = self.pick(TOKENS), self.choices.log(1, 100 * USD)
        self.chain.send(token, "mint", (self.chain.addresses["channels"], amount), STRANGER)
        self.donated[token] += amount
        self.wallets = self.read()

    # ------------------------------------------------------------------------- vouchers, claims

    @action(8, lambda machine: machine.tills)
    def sign(self) -> None:
        """The payer signs for more; now and then for more than it has paid in."""
        till = self.pick(self.tills)
        till.signed += self.choices.log(1, max(till.unclaimed, 1) * 2)
        till.vouchers.append(till.signed)

    def a_row(self, till: Till, why: Why) -> tuple[VoucherClaim, int]:
        """A claim by one of the payer's vouchers, or by a word that the payer never gave."""
        ceiling = self.pick(till.vouchers[-3:]) if till.vouchers else 0
        signer = till.signer
        if self.choices.chance(0.08):
            ceiling = till.signed + self.choices.log(1, 10 * USD)
            signer = self.pick((*AUTHORIZERS, *(k for k in (*PAYERS, *KEYS) if k != signer)))
        total = self.pick((ceiling, ceiling, min(ceiling, till.balance), ceiling // 2))
        if self.choices.chance(0.05):
            total = ceiling + 1
        word = signature(self.domain, Voucher(till.id, ceiling), signer)
        if total > till.claimed:
            why.need(total <= till.balance, "channels: claim exceeds the balance")
            why.need(total <= ceiling, "channels: claim exceeds the voucher")
            why.need(signer == till.signer, "channels: invalid signature")
        return VoucherClaim(till.config, ceiling, word, total), total

    def some_rows(self, tills: list[Till], why: Why) -> tuple[list[VoucherClaim], list[int]]:
        """Rows of channels, in which one may come twice; what is claimed after each."""
        rows, totals = [], []
        before = [till.claimed for till in tills]
        for till in tills:
            row, total = self.a_row(till, why)
            rows.append(row)
            totals.append(total)
            if not why.reasons:  # for the rows behind it
                till.claimed = max(till.claimed, total)
        for till, claimed in zip(reversed(tills), reversed(before), strict=True):
            till.claimed = claimed
        return rows, totals

    def credit(self, tills: list[Till], totals: list[int]) -> None:
        for till, total in zip(tills, totals, strict=True):
            more = max(0, total - till.claimed)
            till.claimed += more
            self.owed[till.config.receiver, till.token] += more

    @action(10, lambda machine: any(till.vouchers for till in machine.tills))
    def claim(self) -> None:
        why, sender = Why(), self.pick((*RECEIVERS, *AUTHORIZERS))
        able = [till for till in self.tills if sender in till.claimers]
        able = self.tills if self.choices.chance(0.1) or not able else able
        tills = [self.pick(able) for _ in range(self.pick((1, 2, 4)))]
        if self.choices.chance(0.08):
            sender = self.pick(PEOPLE)
        rows, totals = self.some_rows(tills, why)
        for till in tills:
            why.need(sender in till.claimers, "channels: caller is not the receiver's")
        if self.call("claim", ([row.abi_tuple() for row in rows],), sender, why):
            self.credit(tills, totals)

    @action(5, lambda machine: any(till.vouchers for till in machine.tills))
    def claim_by_word(self) -> None:
        why, wanted = Why(), self.pick(self.tills).config.receiver_authorizer
        able = [till for till in self.tills if till.config.receiver_authorizer == wanted]
        able = self.tills if self.choices.chance(0.1) else able
        tills = [self.pick(able) for _ in range(self.pick((1, 2, 3)))]
        rows, totals = self.some_rows(tills, why)
        wanted = tills[0].config.receiver_authorizer
        signer = wanted if self.choices.chance(0.9) else self.pick((*AUTHORIZERS, *PAYERS, *KEYS))
        for till in tills:
            one = till.config.receiver_authorizer == wanted
            why.need(one, "channels: several receiver authorizers")
        why.need(signer == wanted, "channels: invalid signature")
        batch = claim_batch(CHAIN_ID, rows, self.domain.contract)
        word = signature(self.domain, batch, signer)
        args = ([row.abi_tuple() for row in rows], word)
        if self.call("claimWithSignature", args, self.pick(PEOPLE), why):
            self.credit(tills, totals)

    @action(4, lambda machine: machine.tills)
    def settle(self) -> None:
        self.pay(self.pick(RECEIVERS), self.pick(TOKENS), self.pick(PEOPLE))

    def pay(self, receiver: str, token: str, sender: str) -> None:
        due = self.owed[receiver, token]
        args = (receiver, self.chain.addresses[token])
        self.call("settle", args, sender, Why(), (receiver, token, due))
        self.settled[receiver, token] += due
        self.owed[receiver, token] = 0

    # ------------------------------------------------------------------------------ exits

    @action(5, lambda machine: machine.tills)
    def begin_withdrawal(self) -> None:
        till, why = self.pick(self.tills), Why()
        amount = self.pick((till.unclaimed, till.unclaimed, till.unclaimed + 1, 1, 0))
        sender = self.pick((till.config.payer, till.config.payer, till.signer))
        if self.choices.chance(0.1):
            sender = self.pick(PEOPLE)
        self.begin(till, amount, sender, why)

    def begin(self, till: Till, amount: int, sender: str, why: Why) -> None:
        payers = (till.config.payer, till.config.payer_authorizer)
        why.need(sender in payers, "channels: caller is not the payer's")
        why.need(amount, "channels: zero withdrawal")
        why.need(not till.since, "channels: withdrawal already pending")
        why.need(amount <= till.unclaimed, "channels: withdrawal exceeds the unclaimed")
        if self.call("initiateWithdraw", (till.config.abi_tuple(), amount), sender, why):
            till.asked, till.since = amount, self.now

    @action(5, lambda machine: machine.tills)
    def end_withdrawal(self) -> None:
        till, why = self.pick([t for t in self.tills if t.since] or self.tills), Why()
        if till.since and self.choices.chance(0.6):
            self.go_to(till.since + till.config.withdraw_delay - self.pick((0, 0, 1)))
        sender = self.pick((till.config.payer, till.config.payer, till.signer))
        if self.choices.chance(0.1):
            sender = self.pick(PEOPLE)
        self.finish(till, sender, why)

    def finish(self, till: Till, sender: str, why: Why) -> None:
        payers = (till.config.payer, till.config.payer_authorizer)
        why.need(sender in payers, "channels: caller is not the payer's")
        why.need(till.since, "channels: no withdrawal pending")
        over = till.since and self.now >= till.since + till.config.withdraw_delay
        why.need(over or not till.since, "channels: withdraw delay not over")
        back = min(till.asked, till.unclaimed)
        gets = (till.config.payer, till.token, back)
        if self.call("finalizeWithdraw", (till.config.abi_tuple(),), sender, why, gets):
            till.given_back += back
            till.asked = till.since = 0

    def given(self, till: Till, amount: int) -> int:
        """What a refund of this much gives back."""
        return min(amount, till.unclaimed)

    def refunded(self, till: Till, amount: int) -> None:
        back = self.given(till, amount)
        till.refunds += 1
        till.given_back += back
        if back:
            till.asked = max(0, till.asked - back)
            till.since = till.since if till.asked else 0

    @action(3, lambda machine: machine.tills)
    def refund(self) -> None:
        till, why = self.pick(self.tills), Why()
        amount = self.pick((0, 1, till.unclaimed // 2, till.unclaimed, till.unclaimed + 7))
        sender = self.pick(till.claimers)
        if self.choices.chance(0.1):
            sender = self.pick(PEOPLE)
        why.need(sender in till.claimers, "channels: caller is not the receiver's")
        why.need(amount, "channels: zero refund")
        gets = (till.config.payer, till.token, self.given(till, amount))
        if self.call("refund", (till.config.abi_tuple(), amount), sender, why, gets):
            self.refunded(till, amount)

    @action(3, lambda machine: machine.tills)
    def refund_by_word(self) -> None:
        """Old words are tried as well: each is good once."""
        till, why = self.pick(self.tills), Why()
        amount = self.pick((0, 1, till.unclaimed // 3 + 1, till.unclaimed + 7))
        nonce = max(0, till.refunds - self.pick((0, 0, 0, 1)))
        signer = till.config.receiver_authorizer
        if self.choices.chance(0.1):
            signer = self.pick((*AUTHORIZERS, *PAYERS, *KEYS))
        why.need(nonce == till.refunds, "channels: not the refund's nonce")
        good = signer == till.config.receiver_authorizer
        why.need(good, "channels: invalid signature")
        why.need(amount, "channels: zero refund")
        word = signature(self.domain, Refund(till.id, nonce, amount), signer)
        args = (till.config.abi_tuple(), amount, nonce, word)
        gets = (till.config.payer, till.token, self.given(till, amount))
        if self.call("refundWithSignature", args, self.pick(PEOPLE), why, gets):
            self.refunded(till, amount)

    @action(2)
    def wait(self) -> None:
        self.go_to(self.now + self.pick((1, 60, 899, 900, DAY, 3 * DAY)))

    # ------------------------------------------------------------------------------ the end

    def leave(self) -> None:
        """Everything goes to whom it belongs, and nobody needs anybody who has no part in it.

        Of each channel either the receiver's side is dead, or it wakes up in the last second of
        the delay. The payer gets what is unclaimed, without the receiver (I-2, I-15); a receiver
        that is awake has its last voucher, whatever the payer does (I-15).
        """
        for till in self.tills:
            awake = self.choices.chance(0.5)
            if till.unclaimed and not till.since:
                self.begin(till, till.unclaimed, till.config.payer, Why())
            over = till.since + till.config.withdraw_delay
            if awake and till.vouchers:
                self.go_to(over - 1 if till.since else self.now)
                due = min(till.signed, till.balance)
                word = signature(self.domain, Voucher(till.id, till.signed), till.signer)
                row = VoucherClaim(till.config, till.signed, word, due)
                sender = till.config.receiver_authorizer
                self.call("claim", ([row.abi_tuple()],), sender, Why())
                self.credit([till], [due])
                assert till.claimed == max(till.claimed, due)
            while till.since or till.unclaimed:
                if not till.since:
                    self.begin(till, till.unclaimed, till.config.payer, Why())
                self.go_to(till.since + till.config.withdraw_delay)
                self.finish(till, till.config.payer, Why())
            assert till.unclaimed == 0, "I-2: something of a channel stays"
        for receiver in RECEIVERS:
            for token in TOKENS:
                self.pay(receiver, token, STRANGER)
        self.check()
        self.audit()
        for token in TOKENS:
            left = self.wallets[self.chain.addresses["channels"], token]
            assert left == self.donated[token], f"I-2: {left} stay, {self.donated[token]} are given"


def make() -> Tills:
    """A fresh machine."""
    return Tills()
