# SPDX-License-Identifier: Apache-2.0
"""One RPC endpoint: how it has behaved so far, and one request to it.

A failure of the endpoint (no answer, 5xx, 401, too many requests) puts it out of use for a growing,
jittered time. A refusal of one method puts it behind the others for that method: a plan without
logs still serves reads.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from teraproof import nesting
from teraproof.rpc.branch import Branch
from teraproof.rpc.budget import Budget
from teraproof.rpc.errors import BlockUnknown, ChainError, Malformed, RpcError, Transport
from teraproof.rpc.http import Http, HttpFault, Response
from teraproof.rpc.types import BlockRef
from teraproof.rpc.words import Verdict, one_line, sort

log = logging.getLogger(__name__)

#: Called after each request with (endpoint, method, outcome, seconds).
Observer = Callable[[str, str, str, float], None]

BACKOFF_MAX = 30.0
_BACKOFF_FIRST = 0.25
_STALL_FIRST, _STALL_MOST = 15.0, 60.0  # seconds for which a slow method is left to the others
_SLOW = 0.5  # of our patience, from which on a failure has cost too much to be repeated in line
# The time-out is for a request that nobody else can answer. While another endpoint is left, a
# multiple of what the endpoint usually takes is enough: who drips costs a part of a second then.
_TIMES, _LEAST, _UNKNOWN = 8.0, 0.5, 1.0  # the multiple; seconds at least; seconds before an answer
_MORE = 4.0  # times as long after a wait in vain: one that is slow but well is found out
_NEW = 0.2  # weight of the newest answer
_FORGET = 300.0  # seconds after which a refused method is asked for again as if nothing had been
_MIB = 1 << 20
_MOST = 4 * _MIB
_MOST_OF = {
    "eth_getLogs": 16 * _MIB,
    "eth_getTransactionReceipt": 16 * _MIB,
    "eth_getBlockReceipts": 32 * _MIB,
}
_MOST_WITH_TRANSACTIONS = 32 * _MIB
# Of the endpoint or of our account there, whatever the body says.
_SHUT = frozenset({401, 402, 403, 407, 410, 451})


@dataclass(slots=True)
class Refusal:
    """That a method was refused: how often in a row, when last (monotonic), and in which words."""

    count: int
    at: float
    what: str


class Haste(Enum):
    """How long a request may keep us, by what else there is."""

    NONE = "the whole time-out: nobody else is left"
    SOME = "our patience with the endpoint: another is left"
    MOST = "our patience, and no wait until our budget admits it: another is left that may be free"


@dataclass(frozen=True, slots=True)
class Stall:
    """Until when (monotonic) a method is left to others, and for how many seconds."""

    until: float
    pause: float


@dataclass(slots=True)
class Endpoint:
    """What is known about one RPC endpoint. `budget` bounds the requests to it."""

    label: str
    url: str = field(repr=False)
    budget: Budget = field(default_factory=Budget, repr=False)
    failures: int = 0
    not_before: float = 0.0  # monotonic time before which it is left alone
    wrong_chain: bool = False
    checked_at: float | None = None
    head: int | None = None
    head_time: int = 0  # unix seconds, as the endpoint has it
    base_fee: int | None = None  # of the block after its head
    tip: BlockRef | None = None  # its head, if it gave one when all were asked last
    branch: Branch = field(default_factory=Branch, repr=False)
    by_hash: bool | None = None  # whether it reads at a block's hash (EIP-1898); None: not known
    fault: str = ""
    slow: dict[str, Stall] = field(default_factory=dict)  # methods that have cost a time-out
    probed: bool = False  # now, in a thread of its own
    longer: float = field(default=0.0, repr=False)  # seconds, since it was waited for in vain
    cut: bool = False  # its last request was given up before the time-out
    usual: dict[str, float] = field(default_factory=dict, repr=False)  # seconds, by method
    refusals: dict[str, Refusal] = field(default_factory=dict)

    @property
    def trouble(self) -> str:
        """What is wrong with it now, in words, or ""."""
        if self.fault:
            return self.fault
        for method, refusal in self.refusals.items():
            return f"refuses {method}: {refusal.what}"
        return ""

    def stall(self, method: str) -> Stall | None:
        """Why it is not asked for a method before the others. An endpoint that does not tell its
        chain is of no use for anything.
        """
        return self.slow.get(method) or self.slow.get("eth_chainId")

    def patience(self, method: str) -> float:
        """Seconds to wait for it while another endpoint is left. Only its own answers count: one
        that is quick and lies must not have us give up on one that is slow and right.
        """
        usual = self.usual.get(method)
        known = _UNKNOWN if usual is None else max(_LEAST, _TIMES * usual)
        return max(known, self.longer)

    def took(self, method: str, seconds: float) -> None:
        """It has answered."""
        before = self.usual.get(method, seconds)
        self.usual[method] = before + _NEW * (seconds - before)
        self.longer *= 1 - _NEW

    def kept_waiting(self, seconds: float) -> None:
        """It was waited for in vain. More time is for whatever comes next: it may be far away."""
        self.longer = max(self.longer, _MORE * seconds)

    def rank(self, method: str, now: float) -> int:
        """How far behind the others it stands for a method."""
        refusal = self.refusals.get(method)
        if refusal is None or now - refusal.at > _FORGET:
            return self.failures
        return self.failures + refusal.count


class Wire:
    """Requests to endpoints, and the record of what came of them. Safe in several threads.

    `timeout` is seconds that a whole request may take, its headers and body included. A hurried
    request, for which another endpoint is left, takes no longer than our patience.
    """

    def __init__(
        self,
        http: Http,
        timeout: float,
        clock: Callable[[], float],
        observer: Observer | None = None,
    ) -> None:
        self._http, self._timeout, self._clock, self._observer = http, timeout, clock, observer
        self._lock = threading.Lock()
        self._id = 0

    def ask(
        self,
        endpoint: Endpoint,
        method: str,
        params: Sequence[object],
        read: Callable[[Any], Any] | None = None,
        *,
        hurried: bool = False,
    ) -> Any:
        """The result of one request, read by `read`.

        Raises Transport, BlockUnknown, Reverted, or RpcError.
        """
        with self._lock:
            self._id += 1
            request_id = self._id
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}
        begin = self._clock()
        seconds = self._patient(endpoint, method) if hurried else self._timeout
        try:
            response = self._http.post(
                endpoint.url,
                json.dumps(body).encode(),
                seconds=seconds,
                most=_most(method, params),
            )
        except HttpFault as fault:
            endpoint.cut = seconds < self._timeout and self._clock() - begin >= _SLOW * seconds
            raise self.failed(endpoint, method, fault.what, begin, reached=fault.reached) from None
        answer = _object(response.body)
        refusal = answer.get("error")
        if answer.get("id") not in (request_id, None) or (
            refusal is None and (response.status != 200 or answer.get("id") != request_id)
        ):
            refusal = None
            answer = {}
        if refusal is not None:
            raise self._refused(endpoint, method, refusal, response, begin)
        if response.status != 200:
            raise self._unfit(endpoint, method, response, "", begin)
        if "result" not in answer:
            raise self.failed(endpoint, method, "does not answer JSON-RPC", begin)
        result = answer["result"]
        if result is None and method in ("eth_getBlockByNumber", "eth_getBlockByHash"):
            self._observe(endpoint, method, "unknown block", begin)
            raise BlockUnknown(f"{endpoint.label} does not know the block")
        try:
            found = result if read is None else read(result)
        except Malformed as error:
            raise self._demoted(endpoint, method, str(error), begin) from None
        except ChainError as error:
            self._demoted(endpoint, method, str(error), begin)
            raise
        with self._lock:
            endpoint.failures, endpoint.fault = 0, ""
            endpoint.slow.pop(method, None)
            endpoint.refusals.pop(method, None)
            endpoint.took(method, self._clock() - begin)
            endpoint.cut = False
        self._observe(endpoint, method, "ok", begin)
        return found

    def _patient(self, endpoint: Endpoint, method: str) -> float:
        return min(self._timeout, endpoint.patience(method))

    # ------------------------------------------------------------------ what came of it

    def _refused(
        self, endpoint: Endpoint, method: str, raw: object, response: Response, begin: float
    ) -> ChainError:
        """The error of a node, sorted into our classes."""
        given = raw if isinstance(raw, Mapping) else {"message": raw}
        code, words = given.get("code"), given.get("message")
        error = RpcError(
            code if isinstance(code, int) and abs(code) < 10**9 else 0,
            _without_secrets(one_line(words if words is not None else raw), endpoint.url),
            given.get("data"),
        )
        verdict, sorted_error = sort(method, error)
        if verdict is Verdict.ANSWER:
            with self._lock:
                endpoint.failures, endpoint.fault = 0, ""
            self._observe(endpoint, method, "refused", begin)
            return sorted_error
        if response.status != 200 and (response.status in _SHUT or response.status == 429):
            return self._unfit(endpoint, method, response, error.message, begin)
        if verdict is Verdict.BLOCK:
            # It may have pruned its state, or be behind: others are asked first for a while.
            self._demoted(endpoint, method, error.message, begin, "unknown block")
            return BlockUnknown(f"{endpoint.label}: {error.message}")
        if verdict is Verdict.LIMIT:
            self._demoted(endpoint, method, error.message, begin)
            return self._limited(endpoint, method, response.retry_after, begin)
        if response.status >= 500:
            return self._unfit(endpoint, method, response, error.message, begin)
        self._demoted(endpoint, method, error.message, begin)
        return error

    def _unfit(
        self, endpoint: Endpoint, method: str, response: Response, words: str, begin: float
    ) -> Transport:
        """An HTTP status that is not an answer."""
        status = response.status
        if status == 429:
            return self._limited(endpoint, method, response.retry_after, begin)
        what = f"answers HTTP {status}" + (f": {words}" if words else "")
        if status in _SHUT:
            return self.failed(endpoint, method, f"refuses us, {what}", begin)
        if status >= 500 or status < 400:
            return self.failed(endpoint, method, what, begin, response.retry_after)
        return self._demoted(endpoint, method, what, begin)

    def _limited(self, endpoint: Endpoint, method: str, wait: float, begin: float) -> Transport:
        endpoint.budget.limited()
        # Providers count by the second: it must pass.
        return self.failed(endpoint, method, "limits our rate", begin, max(wait, 1.0))

    def failed(
        self,
        endpoint: Endpoint,
        method: str,
        what: str,
        begin: float,
        wait: float = 0.0,
        *,
        reached: bool = True,
    ) -> Transport:
        """Count a failure, leave the endpoint alone for a while, and make the error."""
        with self._lock:
            endpoint.failures += 1
            endpoint.checked_at = None  # what comes back may be another node
            delay = min(BACKOFF_MAX, _BACKOFF_FIRST * 2.0 ** min(endpoint.failures - 1, 10))
            jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
            delay = max(delay * jitter, min(wait, 2 * BACKOFF_MAX))
            endpoint.not_before = self._clock() + delay
            endpoint.fault = what
            waited = self._clock() - begin
            if waited >= _SLOW * self._patient(endpoint, method):
                endpoint.kept_waiting(waited)
                known = endpoint.slow.get(method)
                pause = _STALL_FIRST if known is None else min(2 * known.pause, _STALL_MOST)
                endpoint.slow[method] = Stall(self._clock() + pause, pause)
                # Its chain is asked for again before anything else: not in line either.
                endpoint.slow.setdefault("eth_chainId", Stall(self._clock(), pause / 2))
        self._observe(endpoint, method, "failed", begin)
        log.info("%s %s (%s)", endpoint.label, what, method)
        return Transport(f"{endpoint.label} {what}; check chain.rpc_urls", reached=reached)

    def _demoted(
        self, endpoint: Endpoint, method: str, what: str, begin: float, outcome: str = "failed"
    ) -> Transport:
        """Put the endpoint behind the others for this method, and make the error."""
        with self._lock:
            known = endpoint.refusals.get(method)
            count = 1 if known is None else min(known.count + 1, 100)
            endpoint.refusals[method] = Refusal(count, self._clock(), what)
        self._observe(endpoint, method, outcome, begin)
        if count == 1:
            log.info("%s refuses %s: %s", endpoint.label, method, what)
        return Malformed(f"{endpoint.label} {what} ({method})")

    def _observe(self, endpoint: Endpoint, method: str, outcome: str, begin: float) -> None:
        if self._observer is not None:
            self._observer(endpoint.label, method, outcome, max(0.0, self._clock() - begin))


def label(number: int, url: str) -> str:
    """How an endpoint is called: by number and host, because its URL may hold a key."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    return f"rpc{number} ({host or '?'})"


def _object(body: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one where there is none."""
    try:
        found = nesting.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _most(method: str, params: Sequence[object]) -> int:
    """Bytes of an answer that are read."""
    if method == "eth_getBlockByNumber" and len(params) > 1 and params[1] is True:
        return _MOST_WITH_TRANSACTIONS
    return _MOST_OF.get(method, _MOST)


def _without_secrets(text: str, url: str) -> str:
    """A node's words without our URL in them, nor the parts of it that may be a key."""
    parts = urlsplit(url)
    secrets = [url, parts.query, parts.password or "", *parts.path.split("/")]
    for secret in sorted((s for s in secrets if len(s) >= 8), key=len, reverse=True):
        text = text.replace(secret, "...")
    return text
