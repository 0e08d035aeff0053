# SPDX-License-Identifier: Apache-2.0
"""The contracts as the agent sees them: reads at a block, calldata, and typed events.

Encodings come from the ABI files beside this package, so a change of a contract shows up as an
error here and not as wrong bytes. Reads raise what `RpcPool.eth_call` raises. Amounts are in the
token's smallest unit, times unix seconds, addresses EIP-55.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from teraproof.errors import LocalError
from teraproof.headers import Header
from teraproof.pog.format import Shape
from teraproof.pog.schedule import Rules
from teraproof.protocol.terms import Record, Terms
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Block, BlockRef, Log

log = logging.getLogger(__name__)


class Function(NamedTuple):
    """A function of a contract: its 4-byte selector and the ABI types of what goes in and out."""

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class EventType(NamedTuple):
    """An event of a contract; `inputs` are (name, ABI type, indexed)."""

    name: str
    topic: bytes
    inputs: tuple[tuple[str, str, bool], ...]


class Abi:
    """An ABI file. Functions with defaults appear once for each number of arguments."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._functions: dict[tuple[str, int], Function] = {}
        self.events: dict[bytes, EventType] = {}
        for entry in entries:
            inputs = tuple(_type(argument) for argument in entry.get("inputs", ()))
            if entry["type"] == "function":
                outputs = tuple(_type(argument) for argument in entry.get("outputs", ()))
                selector = _hash(entry["name"], inputs)[:4]
                key = (entry["name"], len(inputs))
                self._functions[key] = Function(selector, inputs, outputs)
            elif entry["type"] == "event":
                topic = _hash(entry["name"], inputs)
                named = tuple(
                    (argument["name"], kind, bool(argument["indexed"]))
                    for argument, kind in zip(entry["inputs"], inputs, strict=True)
                )
                self.events[topic] = EventType(entry["name"], topic, named)

    @classmethod
    @cache
    def of(cls, contract: str) -> Abi:
        """The ABI of one of our contracts, by its name."""
        file = resources.files("provider_agent") / "abi" / f"{contract}.json"
        return cls(json.loads(file.read_text()))

    def function(self, name: str, arguments: int) -> Function:
        """A function by its name and number of arguments; KeyError when there is none."""
        return self._functions[name, arguments]

    def encode(self, name: str, *arguments: object) -> bytes:
        """Calldata of a call."""
        function = self.function(name, len(arguments))
        return function.selector + encode(function.inputs, arguments)

    def decode_output(self, name: str, arguments: int, data: bytes) -> tuple[Any, ...]:
        """What a call returned. ChainError when the bytes do not fit: not our contract."""
        try:
            values = decode(self.function(name, arguments).outputs, data)
        except (DecodingError, OverflowError, UnicodeDecodeError):
            raise ChainError(
                f"the contract answered {name} with something else; check the contract addresses"
            ) from None
        outputs = self.function(name, arguments).outputs
        return tuple(_plain(kind, value) for kind, value in zip(outputs, values, strict=True))

    def decode_log(self, entry: Log) -> tuple[str, dict[str, Any]] | None:
        """Name and arguments of a log, or None when it is none of ours or cannot be read."""
        event = self.events.get(entry.topics[0]) if entry.topics else None
        if event is None:
            return None
        indexed = [(name, kind) for name, kind, is_indexed in event.inputs if is_indexed]
        plain = [(name, kind) for name, kind, is_indexed in event.inputs if not is_indexed]
        if len(indexed) != len(entry.topics) - 1:
            return None
        arguments: dict[str, Any] = {}
        try:
            for (name, kind), topic in zip(indexed, entry.topics[1:], strict=True):
                arguments[name] = _plain(kind, decode([kind], topic)[0])
            values = decode([kind for _, kind in plain], entry.data)
        except (DecodingError, OverflowError, UnicodeDecodeError) as error:
            log.warning("skipping a %s event that cannot be read: %s", event.name, error)
            return None
        for (name, kind), value in zip(plain, values, strict=True):
            arguments[name] = _plain(kind, value)
        return event.name, arguments

    def topics(self, names: Iterable[str]) -> list[bytes]:
        """The first topics of the events with these names."""
        wanted = set(names)
        return [topic for topic, event in self.events.items() if event.name in wanted]


def _type(argument: Mapping[str, Any]) -> str:
    """The canonical type of an ABI argument, structs written out."""
    kind = str(argument["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in argument['components'])}){kind[5:]}"


def _hash(name: str, inputs: Iterable[str]) -> bytes:
    return bytes(keccak(text=f"{name}({','.join(inputs)})"))


def _plain(kind: str, value: Any) -> Any:
    """Addresses with their checksum, as everywhere in the agent."""
    return str(to_checksum_address(value)) if kind == "address" else value


# ---------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded log; `at` says where it stands in the chain."""

    at: Log


@dataclass(frozen=True, slots=True)
class JobEvent(Event):
    """Something that happened to a job."""

    job: bytes


@dataclass(frozen=True, slots=True)
class Posted(JobEvent):
    """A tenant has put a job and its escrow on the market."""

    requester: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class Accepted(JobEvent):
    """A provider has taken a job at a price."""

    provider: str
    operator: str
    price: int


@dataclass(frozen=True, slots=True)
class Attested(JobEvent):
    """The operator has vouched for a result."""

    provider: str
    result: bytes
    receipt: bytes
    started: int
    finished: int
    assigned_at: int
    attested_at: int
    paused: int


@dataclass(frozen=True, slots=True)
class Settled(JobEvent):
    """The provider has been paid."""

    provider: str
    paid: int
    fee: int


@dataclass(frozen=True, slots=True)
class Expired(JobEvent):
    """The provider has missed the deadline."""

    provider: str
    refund: int
    seized: int


@dataclass(frozen=True, slots=True)
class Refused(JobEvent):
    """The tenant has burned its price and the provider's collateral."""

    provider: str
    burned: int
    seized: int


@dataclass(frozen=True, slots=True)
class Cancelled(JobEvent):
    """The job was taken off the market."""

    requester: str
    refund: int


@dataclass(frozen=True, slots=True)
class QuotesCancelled(Event):
    """An operator has taken back quotes: the nonces `word * 256 + bit` of the mask."""

    operator: str
    word: int
    mask: int


@dataclass(frozen=True, slots=True)
class ProviderEvent(Event):
    """Something that happened to a provider's entry in the registry."""

    provider: str


@dataclass(frozen=True, slots=True)
class Registered(ProviderEvent):
    """A provider has registered."""

    operator: str
    payout: str
    commission_bps: int
    max_lock_per_order: int
    max_locked: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class EndpointChanged(ProviderEvent):
    """A provider's agent is found elsewhere now."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class OperatorChanged(ProviderEvent):
    """A provider has another operator key."""

    operator: str


@dataclass(frozen=True, slots=True)
class PayoutChanged(ProviderEvent):
    """A provider is paid elsewhere."""

    payout: str


@dataclass(frozen=True, slots=True)
class Committed(ProviderEvent):
    """A provider has committed to its rounds of an epoch, or to more of them."""

    epoch: int
    rounds: int
    commitment: bytes
    stake: int


_JOB_EVENTS: tuple[type[Event], ...] = (
    Posted,
    Accepted,
    Attested,
    Settled,
    Expired,
    Refused,
    Cancelled,
    QuotesCancelled,
)
_STAKING_EVENTS: tuple[type[Event], ...] = (
    Registered,
    EndpointChanged,
    OperatorChanged,
    PayoutChanged,
)


class _Contract:
    """An address with an ABI and the typed events that the agent follows."""

    NAME: str
    EVENTS: tuple[type[Event], ...] = ()

    def __init__(self, pool: RpcPool, address: str) -> None:
        self.address = str(to_checksum_address(address))
        self.abi = Abi.of(self.NAME)
        self._pool = pool
        self._types = {kind.__name__: kind for kind in self.EVENTS}

    def topics(self) -> list[bytes]:
        """First topics of the events that `decode` knows."""
        return self.abi.topics(self._types)

    def decode(self, entry: Log) -> Event | None:
        """A log of this contract as a typed event, or None when the agent has no use for it."""
        if int(entry.address, 16) != int(self.address, 16):
            return None
        decoded = self.abi.decode_log(entry)
        if decoded is None or decoded[0] not in self._types:
            return None
        name, arguments = decoded
        if "terms" in arguments:
            try:
                arguments["terms"] = Terms.from_abi(arguments["terms"])
            except LocalError as error:
                log.warning("skipping a %s event: %s", name, error)
                return None
        return self._types[name](entry, **arguments)

    def _read(self, block: Block, name: str, *arguments: object) -> Any:
        data = self._pool.eth_call(self.address, self.abi.encode(name, *arguments), block)
        values = self.abi.decode_output(name, len(arguments), data)
        return values[0] if len(values) == 1 else values


class JobsContract(_Contract):
    """Jobs.vy: reads and calldata."""

    NAME = "Jobs"
    EVENTS = _JOB_EVENTS

    # -- reads at a block

    def state(self, job: bytes, block: Block) -> int:
        """The state word of a job; 0 when it was never posted."""
        return int(self._read(block, "state", job))

    def time_of(self, number: int) -> int:
        """The unix time of a block."""
        return self._pool.block(number).timestamp

    def reserved_score(self, provider: str, block: Block) -> int:
        """Score that a provider's open work holds."""
        return int(self._read(block, "reserved_score", provider))

    def credit_of(self, account: str, block: Block) -> int:
        """Payment token that an account may withdraw."""
        return int(self._read(block, "credit_of", account))

    def quote_used(self, operator: str, nonce: int, block: Block) -> bool:
        """Whether a quote's nonce was used or cancelled."""
        return bool(self._read(block, "quote_used", operator, nonce))

    def paused_until(self, block: Block) -> int:
        """The last second in which new orders are refused."""
        return int(self._read(block, "paused_until"))

    def paused_seconds(self, block: Block) -> int:
        """For how many seconds new orders were refused until this block, in total."""
        return int(self._read(block, "paused_seconds"))

    def challenge_window(self, block: Block) -> int:
        """Seconds between attestation and payment for jobs posted now."""
        return int(self._read(block, "challenge_window"))

    def fee_bps(self, block: Block) -> int:
        """The fee for jobs posted now, in hundredths of a percent."""
        return int(self._read(block, "fee_bps"))

    def open_margin(self, block: Block) -> int:
        """Seconds for which a job stays open after its auction."""
        return int(self._read(block, "OPEN_MARGIN"))

    def lock_margin(self, block: Block) -> int:
        """Seconds that collateral stays locked beyond the latest possible end of a job."""
        return int(self._read(block, "LOCK_MARGIN"))

    def staking(self, block: Block) -> str:
        """The Staking contract."""
        return str(self._read(block, "STAKING"))

    def payment_token(self, block: Block) -> str:
        """The token that jobs are paid in."""
        return str(self._read(block, "PAYMENT_TOKEN"))

    def scores(self, block: Block) -> str:
        """The source of proven scores; the zero address when there is none."""
        return str(self._read(block, "SCORES"))

    def free_score(self, provider: str, block: Block) -> int:
        """Proven score that no open work holds; for a contract that has a source of scores."""
        source = BenchmarkContract(self._pool, self.scores(block))
        return max(0, source.score(provider, block) - self.reserved_score(provider, block))

    # -- calldata

    def accept(self, terms: Terms, proof: Sequence[bytes] = ()) -> bytes:
        """Take a job; `proof` is the Merkle path to its allow-list root."""
        if proof:
            return self.abi.encode("accept", terms.abi_tuple(), list(proof))
        return self.abi.encode("accept", terms.abi_tuple())

    def attest(
        self,
        terms: Terms,
        result: bytes,
        receipt: bytes,
        started: int,
        finished: int,
        signature: bytes,
    ) -> bytes:
        """Relay the operator's Attestation."""
        return self.abi.encode(
            "attest", terms.abi_tuple(), result, receipt, started, finished, signature
        )

    def approve(self, terms: Terms, record: Record) -> bytes:
        """Pay before the window is over (tenant)."""
        return self.abi.encode("approve", terms.abi_tuple(), record.abi_tuple())

    def finalize(self, terms: Terms, record: Record) -> bytes:
        """Pay after the window."""
        return self.abi.encode("finalize", terms.abi_tuple(), record.abi_tuple())

    def refuse(self, terms: Terms, record: Record) -> bytes:
        """Burn price and collateral of a refusable order within the window (tenant)."""
        return self.abi.encode("refuse", terms.abi_tuple(), record.abi_tuple())

    def expire(self, terms: Terms) -> bytes:
        """End a job whose deadline has passed."""
        return self.abi.encode("expire", terms.abi_tuple())

    def cancel(self, terms: Terms) -> bytes:
        """Take an open job off the market."""
        return self.abi.encode("cancel", terms.abi_tuple())

    def withdraw(self, receiver: str | None = None) -> bytes:
        """Pull the caller's credit."""
        return self.abi.encode("withdraw", *(() if receiver is None else (receiver,)))

    def cancel_quotes(self, word: int, mask: int) -> bytes:
        """Take back quotes by their nonces."""
        return self.abi.encode("cancel_quotes", word, mask)


class Pool(NamedTuple):
    """A provider's stake: assets in TPF wei and their shares."""

    active: int
    locked: int
    active_shares: int
    owner_shares: int
    unbonding: int
    unbonding_shares: int


class LockLimits(NamedTuple):
    """The most collateral, in TPF wei, that the operator may put at risk."""

    per_order: int
    total: int


class StakingContract(_Contract):
    """Staking.vy: reads at a block. The agent never writes to it; the owner does."""

    NAME = "Staking"
    EVENTS = _STAKING_EVENTS

    def provider_of(self, operator: str, block: Block) -> str:
        """The owner that an operator key works for; the zero address when none."""
        return str(self._read(block, "provider_of", operator))

    def operator_of(self, provider: str, block: Block) -> str:
        """A provider's operator key."""
        return str(self._read(block, "operator_of", provider))

    def consent_nonce(self, operator: str, block: Block) -> int:
        """The nonce that the next consent of an operator key must carry.

        The consent in force is the one before it; quotes name that.
        """
        return int(self._read(block, "consent_nonce", operator))

    def payout_of(self, provider: str, block: Block) -> str:
        """Where a provider is paid."""
        return str(self._read(block, "payout_of", provider))

    def lock_limits(self, provider: str, block: Block) -> LockLimits:
        """The owner's limits on collateral."""
        return LockLimits(*self._read(block, "lock_limits", provider))

    def pool(self, provider: str, block: Block) -> Pool:
        """A provider's stake."""
        return Pool(*self._read(block, "pool", provider))

    def owner_assets(self, provider: str, block: Block) -> int:
        """What the owner's own active shares are worth, in TPF wei."""
        return int(self._read(block, "owner_assets", provider))

    def endpoint_digest(self, provider: str, block: Block) -> bytes:
        """keccak-256 of the endpoint that the provider has announced."""
        return bytes(self._read(block, "endpoint_digest", provider))

    def token(self, block: Block) -> str:
        """The stake token."""
        return str(self._read(block, "TOKEN"))


class EpochRecord(NamedTuple):
    """What is known of an epoch; zeros for what has not happened. Fits `schedule.Dates`."""

    beacon: bytes
    opened_at: int
    target: int
    draw: bytes
    ends_at: int


class ProofRecord(NamedTuple):
    """A provider's last commitment and its bond; no `rounds`: none, withdrawn or failed."""

    epoch: int
    rounds: int
    commitment: bytes
    verified: int
    stake: int
    bond_until: int
    settled: bool


class Share(NamedTuple):
    """A provider's part of an epoch: its score, the part of it that stake backs, and the sum of
    these over all providers. Integer operations a second.
    """

    score: int
    effective: int
    total: int


class Proven(NamedTuple):
    """What a provider has proven last, whatever its stake: integer operations a second, in which
    epoch, and the second until which it counts.
    """

    score: int
    epoch: int
    until: int


class BenchmarkContract(_Contract):
    """Benchmark.vy: reads and calldata."""

    NAME = "Benchmark"
    EVENTS = (Committed,)

    def rules(self, block: Block) -> Rules:
        """What the contract fixes for ever; BenchmarkError when its sizes are none of format v2."""

        def read(name: str) -> int:
            return int(self._read(block, name))

        return Rules(
            shape=Shape(read("N"), read("BLOCKS")),
            samples=read("SAMPLES"),
            bond=read("BOND"),
            genesis=read("GENESIS"),
            slot=read("SLOT"),
            chance_ppm=read("CHANCE_PPM"),
            spacing=read("SPACING"),
            open_period=read("OPEN_PERIOD"),
            window=read("WINDOW"),
            draw_period=read("DRAW_PERIOD"),
            draw_delay=read("DRAW_DELAY"),
            reach=read("REACH"),
            opening_period=read("OPENING_PERIOD"),
            fault_period=read("FAULT_PERIOD"),
            source=read("SOURCE"),
        )

    def current_epoch(self, block: Block) -> int:
        """The newest epoch that was opened; 0 when there is none."""
        return int(self._read(block, "current_epoch"))

    def epoch_of(self, epoch: int, block: Block) -> EpochRecord:
        """What is known of an epoch."""
        return EpochRecord(*self._read(block, "epoch_of", epoch))

    def proof_of(self, provider: str, block: Block) -> ProofRecord:
        """A provider's last commitment."""
        return ProofRecord(*self._read(block, "proof_of", provider))

    def share_of(self, provider: str, epoch: int, block: Block) -> Share:
        """A provider's part of an epoch; final when the epoch has ended."""
        return Share(*self._read(block, "share_of", provider, epoch))

    def bond(self, block: Block) -> int:
        """TPF wei that a proof puts up."""
        return int(self._read(block, "BOND"))

    def bond_until(self, provider: str, block: Block) -> int:
        """Until when a provider's bond is locked; 0 while none is."""
        return self.proof_of(provider, block).bond_until

    def score(self, provider: str, block: Block) -> int:
        """What is proven and backed by stake now, in integer operations a second."""
        return int(self._read(block, "score", provider))

    def proven(self, provider: str, block: Block) -> Proven:
        """What a provider has proven last."""
        return Proven(*self._read(block, "proven", provider))

    def staking(self, block: Block) -> str:
        """The Staking contract."""
        return str(self._read(block, "STAKING"))

    def header(self, number: int) -> Header:
        """A block's header, for `open` and `draw`."""
        return self._pool.header(number)

    def block(self, number: int) -> BlockRef:
        """A block by its number."""
        return self._pool.block(number)

    # -- calldata

    def open(self, header: Header, parent: Header) -> bytes:
        """Present the block of a boundary that has won."""
        return self.abi.encode("open", header.number, header.data, parent.data)

    def commit(self, epoch: int, rounds: int, commitment: bytes) -> bytes:
        """Commit to the rounds of an epoch (operator)."""
        return self.abi.encode("commit", epoch, rounds, commitment)

    def committed_rounds(self, data: bytes) -> int:
        """The rounds in the calldata of a `commit`."""
        return int(decode(self.abi.function("commit", 3).inputs, data[4:])[1])

    def close(self, epoch: int) -> bytes:
        """Name the block of the draw."""
        return self.abi.encode("close", epoch)

    def draw(self, epoch: int, header: bytes) -> bytes:
        """Read the draw, from the header of the block that was named."""
        return self.abi.encode("draw", epoch, header)

    def open_samples(self, provider: str, openings: Sequence[Sequence[bytes]]) -> bytes:
        """Show the next samples of a proof, each as a list of 32-byte words."""
        if len(openings) == 1:
            return self.abi.encode("open_sample", provider, openings[0])
        return self.abi.encode("open_samples", provider, openings)

    def fail(self, provider: str) -> bytes:
        """Report a proof that was not opened in time."""
        return self.abi.encode("fail", provider)

    def settle(self, provider: str) -> bytes:
        """End what is due for a provider's last epoch."""
        return self.abi.encode("settle", provider)


class EmissionsContract(_Contract):
    """Emissions.vy: reads and calldata. Amounts are TPF wei."""

    NAME = "Emissions"

    def reward_of(self, provider: str, epoch: int, block: Block) -> int:
        """A provider's reward of the newest epoch it has scored in; 0 when it is paid."""
        return int(self._read(block, "reward_of", provider, epoch))

    def benchmark(self, block: Block) -> str:
        """The Benchmark contract whose scores it pays for."""
        return str(self._read(block, "BENCHMARK"))

    def claim(self, provider: str) -> bytes:
        """Pay a provider's reward of its last epoch into its pool."""
        return self.abi.encode("claim", provider)


class TokenContract(_Contract):
    """Any ERC-20: reads at a block."""

    NAME = "Token"

    def balance_of(self, account: str, block: Block) -> int:
        """An account's balance."""
        return int(self._read(block, "balanceOf", account))

    def decimals(self, block: Block) -> int:
        """How many digits its unit has."""
        return int(self._read(block, "decimals"))

    def symbol(self, block: Block) -> str:
        """Its short name."""
        return str(self._read(block, "symbol"))
