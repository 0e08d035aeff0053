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
from typing import Any
from urllib.parse import urlsplit

import httpx

from teraproof.rpc.decode import MAX_INTEGER
from teraproof.rpc.decode import block as read_block
from teraproof.rpc.endpoint import Endpoint
from teraproof.rpc.errors import (
    RATE_LIMITED,
    RUNS_CODE,
    UNKNOWN_BLOCK,
    BlockUnknown,
    ChainError,
    RpcError,
    Transport,
    already_known,
    as_revert,
    one_line,
)
from teraproof.rpc.types import BlockRef, Broadcast

log = logging.getLogger(__name__)

#: Called after each request with (endpoint, method, outcome, seconds).
Observer = Callable[[str, str, str, float], None]

_BACKOFF_FIRST = 0.25
BACKOFF_MAX = 30.0
_ROUNDS = 3  # how often a request goes round the endpoints before the caller is told
_CHAIN_ID_AGE = 300.0  # seconds for which a chain id is believed; a host may be re-pointed
_LEAD = 64  # blocks that an endpoint may be ahead of all others and still be believed
_STALE = 300  # seconds behind the others after which an endpoint's head is of no use as a witness


class Router:
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
                if already_known(error):
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
            most = heads[1] if len(heads) > 1 else MAX_INTEGER
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
            code if isinstance(code, int) else 0, one_line(raw.get("message")), raw.get("data")
        )
        text = error.message.lower()
        if method in RUNS_CODE and as_revert(error) is not None:
            # The rest of the message is the contract's: it must not pass for the node's.
            self._observe(endpoint, method, "refused", begin)
            return error
        if method != "eth_getLogs" and (
            error.number in (-32005, 429) or any(part in text for part in RATE_LIMITED)
        ):
            return self._failed(endpoint, method, "limits our rate", begin)
        if any(part in text for part in UNKNOWN_BLOCK):
            self._observe(endpoint, method, "unknown block", begin)
            return BlockUnknown(f"{endpoint.label}: {error.message}")
        if error.number == -32603 and "revert" not in text and method != "eth_sendRawTransaction":
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
            delay = min(BACKOFF_MAX, _BACKOFF_FIRST * 2.0 ** min(endpoint.failures - 1, 10))
            jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
            delay = max(delay * jitter, min(wait, 2 * BACKOFF_MAX))
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
                block = read_block(self._ask(endpoint, "eth_getBlockByNumber", ["latest", False]))
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
        return read_block(self.call("eth_getBlockByNumber", ["latest", False]))

    def _is_fresh(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is up to date, or as near to it as any (the chain may stand)."""
        with self._lock:
            newest = max(e.head_time for e in self.endpoints)
        return endpoint.head_time > min(newest, self._wall_clock()) - _STALE


def _must_exist(method: str, params: Sequence[object]) -> bool:
    return method in ("eth_getBlockByNumber", "eth_getBlockByHash")
