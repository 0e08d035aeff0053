# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC over several endpoints that may hang, lie, lag, or be down.

An endpoint is used only after it has shown the right chain id; it is left alone for a growing,
jittered time after each failure; and it is not asked about a block that it has not reached. What
went wrong comes out as one of few classes, because the callers act on the difference:

- `Transport`: no usable answer (time-out, refused, 5xx, 429, not JSON). Whether a transaction in
  the request got through is *unknown*.
- `BlockUnknown`: no endpoint knows the block asked for (a reorg, or nobody has it yet).
- `RpcError`: a node answered and said no. `Reverted` when it ran the call and the call failed.

Only requests that may be repeated are repeated: reads, and broadcasts of the same signed bytes.
URLs carry keys, so they are never shown; endpoints are called by number and host.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError

from provider_agent.chain.headers import Header, rebuild
from provider_agent.errors import ChainError, Reverted

log = logging.getLogger(__name__)

#: Called after each request with (endpoint, method, outcome, seconds).
Observer = Callable[[str, str, str, float], None]

_BACKOFF_FIRST = 0.25
_BACKOFF_MAX = 30.0
_ROUNDS = 3  # how often a request goes round the endpoints before the caller is told
_CHAIN_ID_AGE = 300.0  # seconds for which a chain id is believed; a host may be re-pointed
_LEAD = 64  # blocks that an endpoint may be ahead of all others and still be believed
_STALE = 300  # seconds behind the others after which an endpoint's head is of no use as a witness
_MAX_INTEGER = 2**63  # more is no block number, time, amount of gas or index of any chain

_ERROR_STRING = bytes.fromhex("08c379a0")  # Error(string)
_PANIC = bytes.fromhex("4e487b71")  # Panic(uint256)


class Transport(ChainError):
    """No usable answer; the outcome of the request is unknown."""


class BlockUnknown(ChainError):
    """No endpoint knows the block that was asked for."""


class RpcError(ChainError):
    """A node refused the request: JSON-RPC `code`, its `message`, and `data` if it sent any."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(f"the RPC endpoint refused the request: {message} (code {code})")
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block: its number, 32-byte hash, unix time, and base fee in wei (0 before EIP-1559)."""

    number: int
    hash: bytes
    timestamp: int
    base_fee: int = 0


@dataclass(frozen=True, slots=True)
class Log:
    """A log as the node gave it. `removed` logs are never handed out."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a mined transaction; `status` 1 is success, `gas_price` is wei per gas."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    status: int
    gas_used: int
    gas_price: int
    logs: tuple[Log, ...] = ()


@dataclass(frozen=True, slots=True)
class Fees:
    """Fees of EIP-1559 in wei per gas: the next block's base fee and a usual tip."""

    base: int
    tip: int


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What the endpoints said to a signed transaction. `accepted` is proof that one has it;
    without it the outcome is unknown, whatever the errors say.
    """

    accepted: bool
    errors: tuple[ChainError, ...] = ()


Block = BlockRef | int | str


@dataclass(slots=True)
class Endpoint:
    """What is known about one RPC endpoint."""

    label: str
    url: str = field(repr=False)
    failures: int = 0
    not_before: float = 0.0  # monotonic time before which it is left alone
    wrong_chain: bool = False
    checked_at: float | None = None
    head: int | None = None
    head_time: int = 0  # unix seconds, as the endpoint has it
    trouble: str = ""


class RpcPool:
    """Several endpoints of one chain, used as one. Safe to use from several threads.

    `timeout` is seconds an endpoint may take to answer; `max_wait` is seconds a request waits for
    an endpoint to come out of its back-off before it fails; `rounds` is how often a request goes
    round the endpoints.

    Requests that strangers can cause (a call of a contract that a stranger names) belong to a pool
    of their own, with a short `timeout`, no `max_wait` and one round: what goes wrong there must
    not put the endpoints out of use for everything else.
    """

    def __init__(
        self,
        urls: Sequence[str],
        chain_id: int,
        timeout: float = 10.0,
        *,
        max_wait: float = 2.0,
        rounds: int = _ROUNDS,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not urls:
            raise ChainError("no RPC endpoint is configured; set chain.rpc_urls")
        self.chain_id = chain_id
        self.endpoints = [
            Endpoint(f"rpc{n} ({urlsplit(url).hostname or '?'})", url)
            for n, url in enumerate(urls, start=1)
        ]
        self._timeout = timeout
        self._max_wait = max_wait
        self._rounds = rounds
        self._observer = observer
        self._clock = clock
        self._sleep = sleep
        self._wall_clock = wall_clock
        self._lonely = False
        self._lock = threading.Lock()
        self._id = 0
        # The environment has no say in where requests go: settings are read in one place only.
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)), trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # ------------------------------------------------------------------ requests

    def call(self, method: str, params: Sequence[object] = (), *, at: int | None = None) -> Any:
        """The result of a request that may be repeated.

        `at` is a block number that the endpoint must have reached. Raises the classes named above.
        """
        unknown: BlockUnknown | None = None
        trouble: ChainError = Transport("no RPC endpoint answers; check chain.rpc_urls")
        waited = 0.0
        for _ in range(self._rounds):
            candidates = self._candidates(at)
            if not candidates and at is not None and self._candidates(None):
                # All that are up were behind when last asked. If they still are, say so.
                if self.head().number < at:
                    unknown = BlockUnknown(f"no RPC endpoint has reached block {at}")
                    break
                candidates = self._candidates(at)
            if not candidates:
                pause = self._pause()
                if pause is None or waited + pause > self._max_wait:
                    break
                waited += pause
                self._sleep(pause)
                candidates = self._candidates(at)
            for endpoint in candidates:
                try:
                    return self._ask(endpoint, method, params)
                except Transport as error:
                    trouble = error
                except BlockUnknown as error:
                    unknown = error
            if unknown is not None and not isinstance(trouble, Transport):
                break
            if unknown is not None and all(e.failures == 0 for e in candidates):
                break
        if unknown is not None:
            raise unknown
        if all(endpoint.wrong_chain for endpoint in self.endpoints):
            raise ChainError(
                f"no RPC endpoint is on chain {self.chain_id}; check chain.rpc_urls and "
                "chain.chain_id"
            )
        raise trouble

    def broadcast(self, raw: bytes) -> Broadcast:
        """Hand signed bytes to every endpoint that is up; see Broadcast for what it tells."""
        errors: list[ChainError] = []
        accepted = False
        for endpoint in self._candidates(None):
            try:
                self._ask(endpoint, "eth_sendRawTransaction", ["0x" + raw.hex()])
                accepted = True
            except RpcError as error:
                if _already_known(error):
                    accepted = True
                else:
                    errors.append(error)
            except ChainError as error:
                errors.append(error)
        if not accepted and not errors:
            errors.append(Transport("no RPC endpoint is up at the moment"))
        return Broadcast(accepted, tuple(errors))

    def _candidates(self, at: int | None) -> list[Endpoint]:
        """Endpoints to try, the healthiest first."""
        now = self._clock()
        with self._lock:
            usable = [
                endpoint
                for endpoint in self.endpoints
                if endpoint.not_before <= now
                and not (at is not None and endpoint.head is not None and endpoint.head < at)
            ]
            # An endpoint cannot push itself to the front by the head that it claims.
            heads = sorted((e.head for e in usable if e.head is not None), reverse=True)
            most = heads[1] if len(heads) > 1 else _MAX_INTEGER
            return sorted(usable, key=lambda e: (e.failures, -min(e.head or 0, most)))

    def _pause(self) -> float | None:
        """Seconds until the first endpoint may be tried again; None when none is waiting."""
        now = self._clock()
        with self._lock:
            waits = [e.not_before - now for e in self.endpoints if not e.wrong_chain]
        waits = [wait for wait in waits if wait > 0]
        return min(waits) + 0.001 if waits else None

    def _ask(self, endpoint: Endpoint, method: str, params: Sequence[object]) -> Any:
        """One request to one endpoint, after its chain id was checked."""
        checked = endpoint.checked_at
        if checked is None or self._clock() - checked > _CHAIN_ID_AGE:
            self._check_chain(endpoint)
        return self._post(endpoint, method, params)

    def _check_chain(self, endpoint: Endpoint) -> None:
        answer = self._post(endpoint, "eth_chainId", [])
        try:
            chain = int(answer, 16)
        except (TypeError, ValueError):
            raise self._failed(endpoint, "eth_chainId", "not a chain id", 0.0) from None
        with self._lock:
            endpoint.wrong_chain = chain != self.chain_id
            if not endpoint.wrong_chain:
                endpoint.checked_at = self._clock()
                return
            endpoint.checked_at = None
            endpoint.not_before = self._clock() + _CHAIN_ID_AGE
            endpoint.trouble = f"is on chain {chain}, not {self.chain_id}"
        log.warning("%s %s; it is not used", endpoint.label, endpoint.trouble)
        raise Transport(f"{endpoint.label} {endpoint.trouble}; check chain.rpc_urls")

    def _post(self, endpoint: Endpoint, method: str, params: Sequence[object]) -> Any:
        with self._lock:
            self._id += 1
            request_id = self._id
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}
        begin = self._clock()
        try:
            response = self._client.post(endpoint.url, json=body)
        except httpx.HTTPError as error:
            kind = "timed out" if isinstance(error, httpx.TimeoutException) else "is unreachable"
            raise self._failed(endpoint, method, kind, begin) from None
        except httpx.InvalidURL:
            raise self._failed(endpoint, method, "has an invalid URL", begin) from None
        if response.status_code == 429:
            after = response.headers.get("retry-after", "")
            wait = float(after) if after.isdigit() else 0.0
            raise self._failed(endpoint, method, "limits our rate", begin, wait)
        if response.status_code >= 500:
            raise self._failed(endpoint, method, f"answers {response.status_code}", begin)
        try:
            answer = response.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise self._failed(endpoint, method, "does not answer JSON", begin) from None
        if not isinstance(answer, dict) or (
            "error" not in answer and (answer.get("id") != request_id or "result" not in answer)
        ):
            raise self._failed(endpoint, method, "does not answer JSON-RPC", begin)
        if answer.get("error") is not None:
            raise self._refused(endpoint, method, answer["error"], begin)
        result = answer.get("result")
        if result is None and _must_exist(method, params):
            self._observe(endpoint, method, "unknown block", begin)
            raise BlockUnknown(f"{endpoint.label} does not know the block")
        with self._lock:
            endpoint.failures = 0
            endpoint.trouble = ""
        self._observe(endpoint, method, "ok", begin)
        return result

    def _refused(self, endpoint: Endpoint, method: str, raw: object, begin: float) -> ChainError:
        """Sort the error object of a node into our classes."""
        if not isinstance(raw, dict):
            return self._failed(endpoint, method, "does not answer JSON-RPC", begin)
        code = raw.get("code")
        error = RpcError(
            code if isinstance(code, int) else 0, _one_line(raw.get("message")), raw.get("data")
        )
        text = error.message.lower()
        if method in _RUNS_CODE and as_revert(error) is not None:
            # The rest of the message is the contract's: it must not pass for the node's.
            self._observe(endpoint, method, "refused", begin)
            return error
        if method != "eth_getLogs" and (
            error.code in (-32005, 429) or any(part in text for part in _RATE_LIMITED)
        ):
            return self._failed(endpoint, method, "limits our rate", begin)
        if any(part in text for part in _UNKNOWN_BLOCK):
            self._observe(endpoint, method, "unknown block", begin)
            return BlockUnknown(f"{endpoint.label}: {error.message}")
        if error.code == -32603 and "revert" not in text and method != "eth_sendRawTransaction":
            # "Internal error" is the node's own trouble; another may do better.
            return self._failed(endpoint, method, f"has an internal error: {error.message}", begin)
        self._observe(endpoint, method, "refused", begin)
        return error

    def _failed(
        self, endpoint: Endpoint, method: str, what: str, begin: float, wait: float = 0.0
    ) -> Transport:
        """Count a failure, leave the endpoint alone for a while, and make the error."""
        with self._lock:
            endpoint.failures += 1
            endpoint.checked_at = None  # what comes back may be another node
            delay = min(_BACKOFF_MAX, _BACKOFF_FIRST * 2.0 ** min(endpoint.failures - 1, 10))
            jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
            delay = max(delay * jitter, min(wait, 2 * _BACKOFF_MAX))
            endpoint.not_before = self._clock() + delay
            endpoint.trouble = what
        self._observe(endpoint, method, "failed", begin)
        log.info("%s %s (%s)", endpoint.label, what, method)
        return Transport(f"{endpoint.label} {what}; check chain.rpc_urls")

    def _observe(self, endpoint: Endpoint, method: str, outcome: str, begin: float) -> None:
        if self._observer is not None:
            self._observer(endpoint.label, method, outcome, max(0.0, self._clock() - begin))

    # ------------------------------------------------------------------ blocks

    def head(self) -> BlockRef:
        """The newest block that an endpoint has. Endpoints behind it are not asked about it.

        One that is absurdly far ahead of all the others that are up to date is not believed.
        """
        trouble: ChainError | None = None
        heads: list[tuple[Endpoint, BlockRef]] = []
        for endpoint in self._candidates(None):
            try:
                block = _block(self._ask(endpoint, "eth_getBlockByNumber", ["latest", False]))
            except ChainError as error:
                trouble = error
                continue
            with self._lock:
                endpoint.head, endpoint.head_time = block.number, block.timestamp
            heads.append((endpoint, block))
        heads.sort(key=lambda pair: -pair[1].number)
        while len(heads) > 1 and heads[0][1].number > heads[1][1].number + _LEAD:
            if not self._is_fresh(heads[1][0]):
                break
            endpoint, block = heads.pop(0)
            with self._lock:
                endpoint.head = heads[0][1].number  # nothing above it is asked of anybody
            log.warning("%s claims block %d; it is not believed", endpoint.label, block.number)
        if heads:
            return heads[0][1]
        # Nobody answered at once: wait for the first endpoint to come out of its back-off.
        if trouble is not None and not isinstance(trouble, Transport):
            raise trouble
        return _block(self.call("eth_getBlockByNumber", ["latest", False]))

    def agreed_block(self, number: int) -> BlockRef:
        """The newest block, not above `number`, that two endpoints have with the same hash.

        With one endpoint, or when one alone answers and is up to date, it is that one's block.
        Raises ChainError when several answer and no two agree. Call `head` before: it tells how
        far each endpoint is.
        """
        numbers = [number]
        with self._lock:
            heads = {e.head for e in self.endpoints if e.head is not None and e.head < number}
        numbers += sorted(heads, reverse=True)
        for asked in numbers:
            found, answered = self._blocks(asked)
            blocks = [block for _, block in found]
            for block in blocks:
                if sum(other.hash == block.hash for other in blocks) > 1:
                    self._lonely = False
                    self._set_aside([e for e, other in found if other.hash != block.hash], asked)
                    return block
            if answered <= 1:
                if len(self.endpoints) > 1 and not self._lonely:
                    log.warning("one RPC endpoint alone answers; its word is taken unchecked")
                self._lonely = True
                return blocks[0] if blocks else self.block(asked)
        raise ChainError(
            f"the RPC endpoints do not agree about block {number}; nothing is done until two do: "
            "check chain.rpc_urls, three endpoints are better than two"
        )

    def _set_aside(self, endpoints: Sequence[Endpoint], number: int) -> None:
        """Ask nothing for a while of endpoints that are on another branch than most."""
        for endpoint in endpoints:
            with self._lock:
                endpoint.failures += 1
                endpoint.not_before = self._clock() + _BACKOFF_MAX
                endpoint.trouble = f"has another block {number} than the others"
            log.warning("%s %s; it is not used for now", endpoint.label, endpoint.trouble)

    def _blocks(self, number: int) -> tuple[list[tuple[Endpoint, BlockRef]], int]:
        """A block as each endpoint has it, and how many endpoints had a say."""
        found: list[tuple[Endpoint, BlockRef]] = []
        answered = 0
        for endpoint in self._candidates(None):
            try:
                answer = self._ask(endpoint, "eth_getBlockByNumber", [hex(number), False])
                block = _block(answer)
            except (Transport, RpcError):
                continue
            except BlockUnknown:
                # One that stands still says nothing about what is new.
                answered += self._is_fresh(endpoint)
                continue
            if block.number == number:
                found.append((endpoint, block))
                answered += 1
        return found, answered

    def _is_fresh(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is up to date, or as near to it as any (the chain may stand)."""
        with self._lock:
            newest = max(e.head_time for e in self.endpoints)
        return endpoint.head_time > min(newest, self._wall_clock()) - _STALE

    def block(self, number: int) -> BlockRef:
        """The block with this number; BlockUnknown when no endpoint has it."""
        found = _block(self.call("eth_getBlockByNumber", [hex(number), False], at=number))
        if found.number != number:
            raise Transport("an RPC endpoint sent another block than was asked for")
        return found

    def header(self, number: int) -> Header:
        """The whole header of the block with this number, checked against the block's hash."""
        answer = self.call("eth_getBlockByNumber", [hex(number), False], at=number)
        if not isinstance(answer, dict):
            raise Transport("an RPC endpoint sent a malformed block")
        found = rebuild(answer)
        if found.number != number:
            raise Transport("an RPC endpoint sent another block than was asked for")
        return found

    # ------------------------------------------------------------------ state

    def eth_call(
        self,
        to: str,
        data: bytes,
        block: Block,
        sender: str | None = None,
        gas: int | None = None,
    ) -> bytes:
        """Run a call on the state of a block. Raises Reverted with the contract's reason.

        `gas` is the most that it may use; without it the node's own limit holds.
        """
        request = {"to": to, "data": "0x" + data.hex()}
        if gas is not None:
            request["gas"] = hex(gas)
        if sender is not None:
            request["from"] = sender
        try:
            answer = self.call("eth_call", [request, _tag(block)], at=_number(block))
        except RpcError as error:
            raise as_revert(error) or error from None
        return _bytes(answer)

    def code(self, address: str, block: Block = "latest") -> bytes:
        """The code of an account; empty when it is not a contract."""
        return _bytes(self.call("eth_getCode", [address, _tag(block)], at=_number(block)))

    def balance(self, address: str, block: Block = "latest") -> int:
        """The wei of an account."""
        return _int(self.call("eth_getBalance", [address, _tag(block)], at=_number(block)))

    def nonce(self, address: str, block: Block = "latest") -> int:
        """How many transactions of an account the chain holds at a block."""
        return _small(
            self.call("eth_getTransactionCount", [address, _tag(block)], at=_number(block))
        )

    # ------------------------------------------------------------------ transactions

    def estimate_gas(
        self, sender: str, to: str, data: bytes, value: int = 0, *, at: int | None = None
    ) -> int:
        """Gas that a call would take on the newest state. Raises Reverted when it would fail.

        `at` is a block that the endpoint must have reached.
        """
        request = {"from": sender, "to": to, "data": "0x" + data.hex(), "value": hex(value)}
        try:
            return _small(self.call("eth_estimateGas", [request, "latest"], at=at))
        except RpcError as error:
            raise as_revert(error) or error from None

    def fees(self) -> Fees:
        """The next block's base fee and the median tip of the last blocks."""
        try:
            history = self.call("eth_feeHistory", ["0x5", "latest", [50]])
            base = _int(history["baseFeePerGas"][-1])
            tips = sorted(_int(reward[0]) for reward in history.get("reward") or [])
            if tips:
                return Fees(base, tips[len(tips) // 2])
        except RpcError:
            base = self.head().base_fee  # a node without fee history
        except (KeyError, IndexError, TypeError):
            base = self.head().base_fee
        return Fees(base, self._tip())

    def _tip(self) -> int:
        try:
            return _int(self.call("eth_maxPriorityFeePerGas"))
        except RpcError:
            return 10**9  # a node without that method; 1 gwei is taken everywhere

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        """The receipt of a transaction, from the first endpoint that has one."""
        answer = self._first_known("eth_getTransactionReceipt", tx_hash)
        if answer is None or answer.get("blockHash") is None:
            return None
        try:
            return Receipt(
                tx_hash=_bytes(answer["transactionHash"]),
                block_number=_small(answer["blockNumber"]),
                block_hash=_bytes(answer["blockHash"]),
                status=_small(answer["status"]),
                gas_used=_small(answer["gasUsed"]),
                gas_price=_small(answer.get("effectiveGasPrice", "0x0")),
                logs=tuple(_log(entry) for entry in answer.get("logs", [])),
            )
        except (KeyError, TypeError) as error:
            raise Transport("an RPC endpoint sent a malformed receipt") from error

    def knows_transaction(self, tx_hash: bytes) -> bool:
        """Whether any endpoint has the transaction, mined or waiting."""
        return self._first_known("eth_getTransactionByHash", tx_hash) is not None

    def _first_known(self, method: str, tx_hash: bytes) -> dict[str, Any] | None:
        """The first answer that is not null: that an endpoint does not know a transaction says
        nothing about the others. Raises when none answered at all.
        """
        answered = False
        for endpoint in self._candidates(None):
            try:
                answer = self._ask(endpoint, method, ["0x" + tx_hash.hex()])
            except ChainError:
                continue
            answered = True
            if isinstance(answer, dict):
                return answer
        if answered:
            return None
        answer = self.call(method, ["0x" + tx_hash.hex()])
        return answer if isinstance(answer, dict) else None

    # ------------------------------------------------------------------ logs

    def logs(
        self,
        addresses: Sequence[str],
        first: int,
        last: int,
        topics: Sequence[object] = (),
    ) -> list[Log]:
        """Logs of blocks `first` to `last`, both included, in chain order.

        A range that the node finds too large is halved until it fits.
        """
        if first > last:
            return []
        request = {
            "address": list(addresses),
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "topics": list(topics),
        }
        try:
            answer = self.call("eth_getLogs", [request], at=last)
        except RpcError as error:
            if first == last or not _range_too_large(error):
                raise
            middle = (first + last) // 2
            return self.logs(addresses, first, middle, topics) + self.logs(
                addresses, middle + 1, last, topics
            )
        if not isinstance(answer, list):
            raise Transport("an RPC endpoint sent malformed logs")
        found = [_log(entry) for entry in answer if not entry.get("removed")]
        return sorted(found, key=lambda entry: (entry.block_number, entry.log_index))


# ---------------------------------------------------------------------- reading answers

_RUNS_CODE = ("eth_call", "eth_estimateGas")
_RATE_LIMITED = ("rate limit", "too many requests", "request limit", "exceeded the quota")
_UNKNOWN_BLOCK = (
    "header not found",
    "block not found",
    "blocknotfound",
    "blockoutofrange",
    "unknown block",
    "not currently canonical",
    "missing trie node",
    "hash not found",
    "could not find block",
    "block could not be found",
    "resource not found",
)
_RANGE_TOO_LARGE = (
    "range",
    "more than",
    "too large",
    "too many",
    "limit",
    "response size",
    "timeout",
    "timed out",
)
_KNOWN = ("already known", "known transaction", "already imported", "alreadyknown")


def _already_known(error: RpcError) -> bool:
    """Whether a node says that it has these very bytes already."""
    return any(part in error.message.lower() for part in _KNOWN)


def _range_too_large(error: RpcError) -> bool:
    return error.code == -32005 or any(part in error.message.lower() for part in _RANGE_TOO_LARGE)


def as_revert(error: RpcError) -> Reverted | None:
    """The contract's refusal in a node's error, or None when the error is about something else."""
    if error.code != 3 and "revert" not in error.message.lower():
        return None
    data = error.data
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    if isinstance(data, str) and data.startswith("0x"):
        try:
            return Reverted(revert_reason(bytes.fromhex(data[2:])))
        except ValueError:
            pass
    text = error.message
    for prefix in ("execution reverted", "VM Exception while processing transaction: revert"):
        text = text.removeprefix(prefix)
    return Reverted(text.strip(" :,") or "no reason given")


def revert_reason(data: bytes) -> str:
    """The reason in what a failed call returned: Error(string), Panic(uint256), or the bytes."""
    try:
        if data[:4] == _ERROR_STRING:
            return _one_line(abi_decode(["string"], data[4:])[0])
        if data[:4] == _PANIC:
            return f"panic 0x{abi_decode(['uint256'], data[4:])[0]:02x}"
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return f"unreadable reason 0x{data[:36].hex()}"
    return f"0x{data[:36].hex()}" if data else "no reason given"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:300]


def _must_exist(method: str, params: Sequence[object]) -> bool:
    return method in ("eth_getBlockByNumber", "eth_getBlockByHash")


def _tag(block: Block) -> object:
    if isinstance(block, BlockRef):
        # EIP-1898: this very block or nothing, so a read never mixes two sides of a reorg.
        return {"blockHash": "0x" + block.hash.hex(), "requireCanonical": True}
    return hex(block) if isinstance(block, int) else block


def _number(block: Block) -> int | None:
    if isinstance(block, BlockRef):
        return block.number
    return block if isinstance(block, int) else None


def _int(value: object) -> int:
    try:
        number = int(value, 16)  # type: ignore[call-overload]  # TypeError is caught
    except (TypeError, ValueError):
        raise Transport("an RPC endpoint sent something that is not a number") from None
    if number < 0:
        raise Transport("an RPC endpoint sent a negative number")
    return int(number)


def _small(value: object) -> int:
    number = _int(value)
    if number >= _MAX_INTEGER:
        raise Transport("an RPC endpoint sent a number beyond 2^63")
    return number


def _bytes(value: object) -> bytes:
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise Transport("an RPC endpoint sent something that is not hexadecimal")


def _block(raw: object) -> BlockRef:
    if not isinstance(raw, dict):
        raise Transport("an RPC endpoint sent a malformed block")
    try:
        return BlockRef(
            number=_small(raw["number"]),
            hash=_bytes(raw["hash"]),
            timestamp=_small(raw["timestamp"]),
            base_fee=_int(raw.get("baseFeePerGas", "0x0")),
        )
    except KeyError:
        raise Transport("an RPC endpoint sent a malformed block") from None


def _log(raw: dict[str, Any]) -> Log:
    try:
        return Log(
            address=str(raw["address"]),
            topics=tuple(_bytes(topic) for topic in raw["topics"]),
            data=_bytes(raw["data"]),
            block_number=_small(raw["blockNumber"]),
            block_hash=_bytes(raw["blockHash"]),
            tx_hash=_bytes(raw["transactionHash"]),
            log_index=_small(raw["logIndex"]),
        )
    except (KeyError, TypeError):
        raise Transport("an RPC endpoint sent a malformed log") from None
