# SPDX-License-Identifier: Apache-2.0
"""Several endpoints of one chain that may hang, lie, lag, refuse, or be down.

An endpoint is used only after it has shown the right chain id, and it is not asked about a block
that it has not reached. Only what is about the call or the transaction itself is an answer; every
other error is the endpoint's, and the next one is asked.

Only requests that may be repeated are repeated: reads, and broadcasts of the same signed bytes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from teraproof.rpc import decode
from teraproof.rpc.budget import Budget
from teraproof.rpc.endpoint import Endpoint, Haste, Observer, Wire, label
from teraproof.rpc.errors import (
    BlockUnknown,
    BudgetSpent,
    ChainError,
    Reverted,
    RpcError,
    Transport,
    TxFault,
    TxRefused,
)
from teraproof.rpc.http import Http
from teraproof.rpc.turns import counted, in_turn
from teraproof.rpc.types import Block, BlockRef, Broadcast
from teraproof.rpc.words import NEVER_CODES

log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

_ROUNDS = 3  # how often a request goes round the endpoints before the caller gets the error
_BLOCK = "eth_getBlockByNumber"
_AGAIN = 0.1  # seconds between two rounds; one URL may be several nodes
_CHAIN_ID_AGE = 180.0  # seconds for which a chain id is believed; a host may be re-pointed
_WRONG_CHAIN = 300.0  # seconds for which an endpoint of another chain is left alone


class Router:
    """Sends each request to the endpoint that is likeliest to answer. Safe in several threads.

    `timeout` is seconds that a whole request to one endpoint may take, and less while another is
    left (Endpoint.patience); `max_wait` is seconds a
    request waits for an endpoint to come out of its back-off, or for the budget, before it fails;
    `rounds` is how often a request goes round the endpoints. `rate` tells for a URL how many
    requests per second it gets at most, `burst` how many at once; without it a rate is learnt from
    the endpoint's refusals. `ca_file` holds certificates to trust in addition to the system's.

    Requests that strangers can cause (a call of a contract that a stranger names) belong to a pool
    of their own, with a small `rate`, a short `timeout`, no `max_wait` and one round: what goes
    wrong there must not put the endpoints out of use for everything else.
    """

    def __init__(
        self,
        urls: Sequence[str],
        chain_id: int,
        timeout: float = 10.0,
        *,
        max_wait: float = 2.0,
        rounds: int = _ROUNDS,
        rate: Callable[[str], float | None] | None = None,
        burst: float | None = None,
        ca_file: Path | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not urls:
            raise ChainError("no RPC endpoint is configured; set chain.rpc_urls")
        self.chain_id = chain_id
        self.endpoints = [
            Endpoint(
                label(n, url),
                url,
                Budget(None if rate is None else rate(url), burst=burst, clock=clock, sleep=sleep),
            )
            for n, url in enumerate(urls, start=1)
        ]
        self._max_wait, self._rounds = max_wait, rounds
        self._clock, self._sleep, self._wall_clock = clock, sleep, wall_clock
        self._lock = threading.Lock()
        self._hurry = threading.local()
        try:
            self._http = Http(ca_file, tls=any(url.startswith("https:") for url in urls))
        except OSError as error:
            raise ChainError(f"chain.ca_file {ca_file}: {error}") from None
        self._wire = Wire(self._http, timeout, clock, observer)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def renew(self) -> None:
        """End the requests under way and begin with new connections: for a caller that hangs."""
        self._http.renew()

    @contextlib.contextmanager
    def owed(self) -> Iterator[None]:
        """What this thread asks for inside is owed: it comes first where requests are scarce."""
        before = self._is_owed()
        self._hurry.owed = True
        try:
            yield
        finally:
            self._hurry.owed = before

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """What this thread reads inside is what two endpoints say alike, and most of them; with one
        endpoint, or when one alone answers, what that one says. For what cannot be undone.
        """
        before = self._must_agree()
        self._hurry.agreed = True
        try:
            yield
        finally:
            self._hurry.agreed = before

    def _must_agree(self) -> bool:
        return bool(getattr(self._hurry, "agreed", False))

    def _is_owed(self) -> bool:
        return bool(getattr(self._hurry, "owed", False))

    # ------------------------------------------------------------------ requests

    def call(
        self,
        method: str,
        params: Sequence[object] = (),
        *,
        at: int | None = None,
        read: Callable[[Any], Any] | None = None,
        state: BlockRef | None = None,
        rounds: int | None = None,
        avoid: str | None = None,
    ) -> Any:
        """The result of a request that may be repeated, read by `read`.

        `at` is a block number that the endpoint must have reached. `state` is the block that the
        last parameter names; a node that cannot read by hash is asked by number. The endpoint with
        the label `avoid` is asked last. Raises Reverted and TxRefused, which are answers;
        BlockUnknown; RpcError when all have refused; Transport.
        """
        if self._must_agree() and len(self.endpoints) > 1:
            return self._most_say(method, params, at, read, state)

        def ask(endpoint: Endpoint, haste: Haste) -> Any:
            return self._ask(endpoint, method, params, read, state, haste)

        errors: list[ChainError] = []
        waited = 0.0
        for turn in range(self._rounds if rounds is None else rounds):
            if turn and errors and waited + _AGAIN <= self._max_wait:
                waited += _AGAIN
                self._sleep(_AGAIN)
            candidates = self._candidates(method, at)
            if not candidates and at is not None and self._candidates(method, None):
                # All that are up were behind when last asked. If they still are, say so.
                if self._refresh() < at:
                    errors.append(BlockUnknown(f"no RPC endpoint has reached block {at}"))
                    continue
                candidates = self._candidates(method, at)
            if not candidates:
                pause = self._pause()
                if pause is None or waited + pause > self._max_wait:
                    break
                waited += pause
                self._sleep(pause)
                candidates = self._candidates(method, at)
            candidates.sort(key=lambda one: one.label == avoid)
            told: list[ChainError] = []
            for _, _, answer in in_turn(candidates, ask):
                if isinstance(answer, (Reverted, TxRefused)):
                    raise answer
                if not isinstance(answer, ChainError):
                    return answer
                told.append(answer)
            errors += told
            if told and all(_is_final(error) for error in told):
                break
        raise self._conclude(errors)

    def _most_say(
        self,
        method: str,
        params: Sequence[object],
        at: int | None,
        read: Callable[[Any], Any] | None,
        state: BlockRef | None,
    ) -> Any:
        """The result of a request that most endpoints give. Raises Transport when no two agree."""

        def ask(endpoint: Endpoint, haste: Haste) -> Any:
            return self._ask(endpoint, method, params, read, state, haste)

        def likes(found: Sequence[tuple[Endpoint, Any]]) -> list[int]:
            return [sum(other == answer for _, other in found) for _, answer in found]

        found = self.gather(
            self._candidates(method, at), ask, lambda found: max(likes(found), default=0) > 1
        )
        counts = likes(found)
        most = max(counts, default=0)
        first = counts.index(most) if counts else 0
        if not found or (most == 1 < len(found)) or most < counts.count(most):
            raise Transport(
                f"the RPC endpoints do not agree about {method}; it is asked again later",
                reached=bool(found),
            )
        return found[first][1]

    def _conclude(self, errors: Sequence[ChainError]) -> ChainError:
        """What to tell of all that went wrong."""
        for error in errors:
            if isinstance(error, BlockUnknown):
                return error
        if all(endpoint.wrong_chain for endpoint in self.endpoints):
            return ChainError(
                f"no RPC endpoint is on chain {self.chain_id}; check chain.rpc_urls and "
                "chain.chain_id"
            )
        for error in reversed(errors):
            if isinstance(error, Transport) and error.reached:
                return error
        if errors:
            return errors[-1]
        return Transport("no RPC endpoint answers; check chain.rpc_urls", reached=False)

    def broadcast(self, raw: bytes) -> Broadcast:
        """Hand signed bytes to every endpoint that is up; see Broadcast for what it tells."""
        method = "eth_sendRawTransaction"
        errors: list[ChainError] = []
        accepted = False
        for left, endpoint in counted(self._candidates(method, None)):
            try:
                haste = Haste.SOME if accepted or left else Haste.NONE
                self._ask(endpoint, method, ["0x" + raw.hex()], None, None, haste)
                accepted = True
            except TxRefused as error:
                if error.fault is TxFault.KNOWN:
                    accepted = True
                else:
                    errors.append(error)
            except ChainError as error:
                errors.append(error)
        if not accepted and not errors:
            errors.append(Transport("no RPC endpoint is up at the moment", reached=False))
        return Broadcast(accepted, tuple(errors))

    def each(
        self,
        method: str,
        params: Sequence[object],
        read: Callable[[Any], Any],
        *,
        at: int | None = None,
    ) -> list[tuple[Endpoint, Any]]:
        """What every endpoint that is up, has reached block `at`, and answers says. Nobody waits
        for our budget of an endpoint when two others have answered.
        """

        def ask(endpoint: Endpoint, haste: Haste) -> Any:
            return self._ask(endpoint, method, params, read, None, haste)

        return self.gather(self._candidates(method, at), ask, lambda found: len(found) > 1)

    def gather(
        self,
        endpoints: Sequence[Endpoint],
        ask: Callable[[Endpoint, Haste], _Answer],
        enough: Callable[[Sequence[tuple[Endpoint, _Answer]]], bool],
    ) -> list[tuple[Endpoint, _Answer]]:
        """The answers of those that answer; who has to wait for our budget is asked last, and only
        until there are enough. While there are not, those that were given up in haste are asked
        once more, and waited for longer: a short delay must not cost anybody its vote.
        """
        found: list[tuple[Endpoint, _Answer]] = []
        for endpoint, haste, answer in in_turn(
            endpoints, ask, self.given_up, lambda: enough(found)
        ):
            if haste is not Haste.MOST:
                endpoint.cut = False  # it had its second chance, and more time
            if not isinstance(answer, ChainError):
                found.append((endpoint, answer))
        return found

    def given_up(self) -> list[Endpoint]:
        """Endpoints whose last request ended before its time-out: we know nothing against them."""
        with self._lock:
            return [one for one in self.endpoints if one.cut and not one.wrong_chain]

    # ------------------------------------------------------------------ choosing

    def _candidates(self, method: str, at: int | None) -> list[Endpoint]:
        """Endpoints to try, the likeliest to answer first."""
        now = self._clock()
        with self._lock:
            usable = [
                endpoint
                for endpoint in self.endpoints
                if endpoint.not_before <= now
                and not (at is not None and endpoint.head is not None and endpoint.head < at)
            ]
            # What has cost a time-out is tried at the same time as the others, not before them.
            quick = [endpoint for endpoint in usable if endpoint.stall(method) is None]
            if quick and len(quick) < len(usable):
                for endpoint in usable:
                    self._probe(endpoint, method, now)
                usable = quick
            # An endpoint cannot push itself to the front by the head that it claims.
            heads = sorted((e.head for e in usable if e.head is not None), reverse=True)
            most = heads[1] if len(heads) > 1 else decode.MAX_INTEGER
            return sorted(usable, key=lambda e: (e.rank(method, now), -min(e.head or 0, most)))

    def _probe(self, endpoint: Endpoint, method: str, now: float) -> None:
        """Give a slow endpoint another chance when it is time; the lock is held."""
        stall = endpoint.stall(method)
        if stall is None or now < stall.until or endpoint.probed:
            return
        if method in endpoint.slow and method != _BLOCK:
            del endpoint.slow[method]  # only a request of this kind shows whether it is well
            return
        endpoint.probed = True

        def ask() -> None:
            try:
                # A pool that is closed meanwhile is not an error.
                with contextlib.suppress(ChainError, RuntimeError):
                    self._ask(endpoint, _BLOCK, ["latest", False], decode.block)
            finally:
                with self._lock:
                    endpoint.probed = False

        threading.Thread(target=ask, name="probe", daemon=True).start()

    def _pause(self) -> float | None:
        """Seconds until the first endpoint may be tried again; None when none is waiting."""
        now = self._clock()
        with self._lock:
            waits = [e.not_before - now for e in self.endpoints if not e.wrong_chain]
        waits = [wait for wait in waits if wait > 0]
        return min(waits) + 0.001 if waits else None

    def _refresh(self) -> int:
        """Ask all for their newest block again; the highest number, or 0."""
        found = self.each("eth_getBlockByNumber", ["latest", False], decode.block)
        for endpoint, block in found:
            self._note_head(endpoint, block)
        return max((block.number for _, block in found), default=0)

    def _note_head(self, endpoint: Endpoint, block: BlockRef) -> None:
        with self._lock:
            endpoint.head, endpoint.head_time = block.number, block.timestamp
            endpoint.base_fee = block.next_base
            endpoint.tip = block
            endpoint.branch.tell(block)

    # ------------------------------------------------------------------ one endpoint

    def _ask(
        self,
        endpoint: Endpoint,
        method: str,
        params: Sequence[object],
        read: Callable[[Any], Any] | None = None,
        state: BlockRef | None = None,
        haste: Haste = Haste.NONE,
    ) -> Any:
        """One request to one endpoint, after its chain id was checked."""
        checked = endpoint.checked_at
        if checked is None or self._clock() - checked > _CHAIN_ID_AGE:
            self._check_chain(endpoint, haste)
        if state is None:
            return self._send(endpoint, method, params, read, haste)
        if endpoint.by_hash is False:
            return self._by_number(endpoint, method, params, read, state, haste)
        try:
            found = self._send(endpoint, method, params, read, haste)
        except RpcError as refusal:
            if isinstance(refusal, TxRefused) or endpoint.by_hash:
                raise
            # Perhaps a node from before EIP-1898. If it answers by number, it is.
            try:
                found = self._by_number(endpoint, method, params, read, state, haste)
            except RpcError:
                raise refusal from None
            endpoint.by_hash = False
            log.info("%s cannot read at a block's hash; it is asked by number", endpoint.label)
            return found
        except Reverted:
            endpoint.by_hash = True
            raise
        endpoint.by_hash = True
        return found

    def _by_number(
        self,
        endpoint: Endpoint,
        method: str,
        params: Sequence[object],
        read: Callable[[Any], Any] | None,
        state: BlockRef,
        haste: Haste,
    ) -> Any:
        """Read at a block's number, with a look before and after that it is still that block."""
        self._check_block(endpoint, state, haste)
        try:
            return self._send(endpoint, method, [*params[:-1], hex(state.number)], read, haste)
        finally:
            self._check_block(endpoint, state, haste)

    def _check_block(self, endpoint: Endpoint, state: BlockRef, haste: Haste) -> None:
        request = [hex(state.number), False]
        found = self._send(endpoint, "eth_getBlockByNumber", request, decode.block, haste)
        if found.hash != state.hash:
            raise BlockUnknown(f"{endpoint.label} has another block {state.number}")

    def _check_chain(self, endpoint: Endpoint, haste: Haste) -> None:
        begin = self._clock()
        try:
            chain = self._send(endpoint, "eth_chainId", [], decode.integer, haste)
        except Transport as error:
            if isinstance(error, BudgetSpent) or endpoint.not_before > begin:
                raise  # counted already
            raise self._wire.failed(endpoint, "eth_chainId", endpoint.trouble, begin) from error
        except (RpcError, BlockUnknown, Reverted):
            # Without its chain it is of no use for anything.
            raise self._wire.failed(endpoint, "eth_chainId", endpoint.trouble, begin) from None
        with self._lock:
            endpoint.wrong_chain = chain != self.chain_id
            if not endpoint.wrong_chain:
                endpoint.checked_at = self._clock()
                return
            endpoint.checked_at = None
            endpoint.not_before = self._clock() + _WRONG_CHAIN
            endpoint.fault = f"is on chain {chain}, not {self.chain_id}"
        log.warning("%s %s; it is not used", endpoint.label, endpoint.fault)
        raise Transport(f"{endpoint.label} {endpoint.fault}; check chain.rpc_urls")

    def _send(
        self,
        endpoint: Endpoint,
        method: str,
        params: Sequence[object],
        read: Callable[[Any], Any] | None,
        haste: Haste,
    ) -> Any:
        """One request, within the budget."""
        wait = 0.0 if haste is Haste.MOST else self._max_wait
        if not endpoint.budget.take(owed=self._is_owed(), wait=wait):
            raise BudgetSpent(f"our own budget of requests to {endpoint.label} is used up")
        return self._wire.ask(endpoint, method, params, read, hurried=haste is not Haste.NONE)


def _is_final(error: ChainError) -> bool:
    """Whether the same endpoint would say the same to the same request."""
    return isinstance(error, RpcError) and error.number in NEVER_CODES


def state_of(block: Block) -> BlockRef | None:
    """The block to check reads against, where it is named by its hash."""
    return block if isinstance(block, BlockRef) else None
