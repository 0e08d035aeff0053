# SPDX-License-Identifier: Apache-2.0
"""A request from its application to a host and back: ranking, budgets, the next host on failure.

A host that fails before its first content is replaced without the client seeing it. After that the
client gets one clean error: what was written cannot be taken back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from teraproof.errors import LocalError, Refused, counted
from teraproof.gateway import bodies, examine
from teraproof.gateway import log as activity
from teraproof.gateway.ask import Ask
from teraproof.gateway.attempt import Attempt, Piece
from teraproof.gateway.examine import Lineups
from teraproof.gateway.faults import HostFailed, RequestRefused
from teraproof.gateway.hosts import Hosts
from teraproof.gateway.identity import Answer, Counter
from teraproof.gateway.identity.recount import count
from teraproof.gateway.keys import Key, Reservation
from teraproof.gateway.means import Means
from teraproof.gateway.memory import Memory
from teraproof.gateway.ranking import Candidate, Search
from teraproof.gateway.receipts import Dishonest
from teraproof.gateway.room import Full
from teraproof.protocol.errors import Code, one_line

log = logging.getLogger(__name__)

_CANARIES = 8  # that run at once
_RELIABLE = 0.5  # the least share of requests that a host answers which others serve
_DRAW = random.SystemRandom()  # hosts must not foresee what is compared


@dataclass
class Live:
    """What happens now, for a person who watches."""

    running: int = 0
    answered: int = 0
    failed: int = 0
    lines: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        """The newest of a few lines."""
        self.lines = [*self.lines, line][-8:]


@dataclass(frozen=True)
class Streamed:
    """An answer that has begun. `end` is called in whatever way it ends, also where nobody has read
    a piece: what it holds is free again.
    """

    pieces: AsyncIterator[bytes]
    attempt: Attempt
    end: Callable[[], Awaitable[None]]


class Relay:
    """See the module. For one event loop."""

    def __init__(self, means: Means, hosts: Hosts, lineups: Lineups, memory: Memory) -> None:
        self.means, self.hosts, self.lineups, self.memory = means, hosts, lineups, memory
        self.live = Live()
        self._tasks: set[asyncio.Task[None]] = set()
        self._canaries = 0

    async def close(self) -> None:
        """Wait for what goes on behind answers."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.means.purse.settled()

    # ------------------------------------------------------------------ answers

    async def json(self, ask: Ask, key: Key) -> tuple[bytes, Attempt]:
        """The body of an answer that is not streamed; call `answered` when it has left. LocalError,
        RequestRefused.
        """
        failures, refused = list[LocalError](), list[Candidate]()
        for to, attempt, reserved in self._tries(ask, key, failures):
            try:
                body = await attempt.json(reserved)
            except LocalError as error:
                await self._close(attempt, reserved, str(error))
                if _is_ours(error):
                    raise
                await self._failed(attempt, error)
                failures.append(error)
                refused += [to] if isinstance(error, RequestRefused) else []
                continue
            except BaseException:  # the client has gone, or a bug: the channel is free again
                await self._close(attempt, reserved, "the client has gone", gone=True)
                raise
            await self._close(attempt, reserved, "")
            self._outdone(refused)
            return body, attempt
        raise self._exhausted(ask, failures)

    async def stream(self, ask: Ask, key: Key) -> Streamed:
        """A streamed answer, once there is content. LocalError, RequestRefused."""
        failures, refused = list[LocalError](), list[Candidate]()
        for to, attempt, reserved in self._tries(ask, key, failures):
            pieces = attempt.stream(reserved)
            begun: list[Piece] = []
            try:
                async for piece in pieces:
                    begun.append(piece)
                    if piece.content:
                        break
            except LocalError as error:
                await self._close(attempt, reserved, str(error))
                if _is_ours(error):
                    raise
                await self._failed(attempt, error)
                failures.append(error)
                refused += [to] if isinstance(error, RequestRefused) else []
                continue
            except BaseException:  # the client has gone, or a bug: the channel is free again
                await self._close(attempt, reserved, "the client has gone", gone=True)
                raise
            self._outdone(refused)
            rest = self._rest(attempt, reserved, begun, pieces, key)
            end = partial(self._close, attempt, reserved, "the client has gone", gone=True)
            return Streamed(rest, attempt, end)
        raise self._exhausted(ask, failures)

    async def _rest(
        self,
        attempt: Attempt,
        reserved: Reservation,
        begun: list[Piece],
        pieces: AsyncIterator[Piece],
        key: Key,
    ) -> AsyncIterator[bytes]:
        try:
            for piece in begun:
                yield piece.data
            async for piece in pieces:
                yield piece.data
        except LocalError as error:
            await self._close(attempt, reserved, str(error))
            if _is_ours(error):
                yield error_event(str(error))
                return
            await self._failed(attempt, error)
            yield error_event(f"the provider has failed while it wrote: {error}")
        except BaseException:  # as above
            await self._close(attempt, reserved, "the client has gone", gone=True)
            raise
        else:
            await self._close(attempt, reserved, "")
            self.answered(attempt, key)

    # ------------------------------------------------------------------ what follows

    def _search(self, ask: Ask) -> Search:
        route, means = self.means.limits, self.means
        wish, wanted = ask.wish, ask.preferences
        return Search(self.hosts, wish, wanted, means.decimals, route.only, route.ignore)

    def _candidates(self, ask: Ask) -> list[Candidate]:
        return self._search(ask).candidates(self.means.limits.sort)

    def _nobody(self, ask: Ask) -> Refused:
        """Why a request has no host."""
        why = self._search(ask).reasons()
        model = one_line(ask.preferences.models[0], 80)
        said = (
            f"no host of it can serve this: {why}"
            if why
            else "no provider serves it now; GET /v1/models lists what there is"
        )
        return Refused(Code.MODEL_UNKNOWN, f"{model}: {said}")

    def _chosen(self, ask: Ask, key: Key) -> list[Candidate]:
        """Who is tried. Refused where nobody can be, with the reason."""
        if key.models and not set(ask.preferences.models) <= set(key.models):
            raise Refused(
                Code.MODEL_UNKNOWN,
                f"the key {key.name} may ask for {', '.join(key.models)}; change keys.{key.name}."
                "models",
            )
        found = self._candidates(ask)
        if not found:
            raise self._nobody(ask)
        return found[: self.means.limits.max_tries]

    def _tries(
        self, ask: Ask, key: Key, failures: list[LocalError]
    ) -> Iterator[tuple[Candidate, Attempt, Reservation]]:
        """Who is tried, with what is reserved for it. Refused where nobody can be."""
        for to in self._chosen(ask, key):
            attempt = Attempt(self.means, to, ask)
            try:
                reserved = self.means.keys.reserve(key, attempt.ceiling)
            except Refused as error:  # another one may cost less
                failures.append(error)
                continue
            yield to, attempt, reserved

    async def _failed(self, attempt: Attempt, error: LocalError) -> None:
        """What a failure means for the host."""
        host, line = attempt.host, f"{attempt.host.owner}: {error}"
        self.live.failed += 1
        self.live.tell(line)
        if isinstance(error, Dishonest):
            self.hosts.dropped[host.owner] = str(error)
            store = self.means.purse.ledger.store
            await store.write(lambda db: activity.drop(db, host.owner, str(error)))
            log.error("%s is not used any more: %s", host.owner, error)
            return
        # Who refuses has nothing to think about: slow refusals would hold up every request.
        is_busy = isinstance(error, HostFailed) and not error.excludes
        is_late = attempt.is_slow and (is_busy or isinstance(error, RequestRefused))
        if isinstance(error, HostFailed) or is_late:
            self.hosts.measured(host.owner, attempt.model.name).failed()
            self.memory.touched(attempt.model.name, host.owner)
            if is_late or not is_busy:
                pause = self.hosts.exclude(host.owner)
                log.warning("%s, so it is left out for %.0f s", line, pause)

    def _outdone(self, refused: Sequence[Candidate]) -> None:
        """Hosts have refused a request that another one has served: it was not wrong. One that does
        so most of the time goes behind the others, whatever its price.
        """
        for to in refused:
            owner, seen = to.host.owner, self.hosts.measured(to.host.owner, to.model.name)
            seen.failed()
            self.memory.touched(to.model.name, owner)
            if seen.reliability < _RELIABLE:
                pause = self.hosts.exclude(owner)
                log.warning("%s refuses what others serve, so it waits for %.0f s", owner, pause)

    def answered(self, attempt: Attempt, key: Key) -> None:
        """What a whole answer says of its host. The client does not wait for that."""
        bill, owner, model = attempt.bill, attempt.host.owner, attempt.model.name
        assert bill.receipt is not None  # it is whole
        said, timing = bill.receipt.receipt, bill.timing
        speed = said.completion_tokens / timing.writing if timing.writing > 0 else None
        self.hosts.measured(owner, model).answered(timing.latency, speed)
        self.hosts.readmit(owner)
        self.memory.touched(model, owner)
        self.live.answered += 1
        answer = self._read(attempt)
        if answer is None:
            return
        counter = self.lineups.counters.get(model)
        if counter is None or not answer.whole:
            self._examined(attempt, answer, key)
        else:
            self.spawn(self._recount(attempt, answer, key, counter))

    async def _recount(self, attempt: Attempt, answer: Answer, key: Key, counter: Counter) -> None:
        """Not on the event loop: a long text takes its time."""
        counted = await asyncio.to_thread(count, answer.text, answer.hidden, counter)
        self._examined(attempt, replace(answer, counted=counted), key)

    def _examined(self, attempt: Attempt, answer: Answer, key: Key) -> None:
        owner, model = attempt.host.owner, attempt.model.name
        lineup = self.lineups.of(model)
        lineup.observe(owner, answer)
        if lineup.evidence(owner).alarms:  # a comparison can say more, and says it by itself
            self.live.tell(f"{owner}: {lineup.verdict(owner).line}")
            self.spawn(self.memory.flush())
        # To nobody whom the request, or gateway.toml, rules out.
        may = self.means.limits.canary_rate > 0 and attempt.ask.preferences.allow_fallbacks
        others = [
            one.host.owner for one in self._candidates(attempt.ask) if one.model.name == model
        ]
        chosen = lineup.canary(owner, others, _DRAW.random()) if may else None
        if chosen is not None and self._canaries < _CANARIES:
            self._canaries += 1
            self.spawn(self._canary(attempt, answer, chosen, key))

    def _read(self, attempt: Attempt) -> Answer | None:
        receipt, ask = attempt.bill.receipt, attempt.ask
        if receipt is None or ask.kind not in ("chat", "completions"):
            return None
        return examine.read(
            ask.body,
            attempt.answer,
            receipt.receipt,
            attempt.sent.read.limit,
            streams=ask.streams,
            partial=attempt.is_partial,
        )

    async def _canary(self, first: Attempt, answer: Answer, peer: str, key: Key) -> None:
        """The same request to another host of the model, paid alike, compared, thrown away."""
        reserved = None
        try:
            host = self.hosts.host(peer)
            model = None if host is None else host.model(first.model.name)
            if host is None or model is None or first.ask.kind not in model.kinds:
                return
            attempt = Attempt(self.means, Candidate(host, model), first.ask, kind="canary")
            reserved = self.means.keys.reserve(key, attempt.ceiling)
            try:
                if first.ask.streams:
                    async for _ in attempt.stream(reserved):
                        pass
                else:
                    await attempt.json(reserved)
            except LocalError as error:
                await self._close(attempt, reserved, str(error))
                if not _is_ours(error):
                    await self._failed(attempt, error)
                return
            except BaseException:  # as above
                await self._close(attempt, reserved, "the gateway ends")
                raise
            await self._close(attempt, reserved, "")
            replayed = self._read(attempt)
            if replayed is not None:
                lineup = self.lineups.of(model.name)
                lineup.compare(first.host.owner, answer, peer, replayed)
                self.memory.compared(model.name, first.host.owner, peer)
                await self.memory.flush()
                for owner in (first.host.owner, peer):
                    verdict = lineup.verdict(owner)
                    if verdict.fault is not None:
                        self.live.tell(f"{owner}: {verdict.line}")
        except Refused:
            return  # the key's budget is for its own requests first
        finally:
            self._canaries -= 1

    async def _close(
        self, attempt: Attempt, reserved: Reservation, why: str, *, gone: bool = False
    ) -> None:
        """To its end, also when the client's request is cancelled meanwhile."""

        async def close() -> None:
            try:
                await attempt.close(why, gone=gone)
            finally:
                reserved.settle(0)  # where nothing was begun

        await asyncio.shield(self.spawn(close()))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in the background; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _exhausted(self, ask: Ask, failures: list[LocalError]) -> LocalError:
        """What the client is shown when no host has answered."""
        for error in failures:
            if isinstance(error, RequestRefused):
                return error
        for error in failures:
            if error.code is Code.BUDGET_SPENT:
                return error
        last = failures[-1]
        return LocalError(
            f"{counted(len(failures), 'host')} of {one_line(ask.preferences.models[0], 80)} tried, "
            f"and no answer came; the last: {last}",
            Code.HOSTS_EXHAUSTED,
        )


def _is_ours(error: LocalError) -> bool:
    """Whether this machine has failed: no other host would do better, and none is to blame."""
    return isinstance(error, Full) or error.code in (
        Code.DATABASE_UNWRITABLE,
        Code.DATABASE_DAMAGED,
    )


def error_event(line: str) -> bytes:
    """One event of a stream that says that it has failed, as OpenAI's clients read it."""
    error = {"message": one_line(line), "type": "provider_error", "code": "provider_failed"}
    return b"data: " + bodies.dump({"error": error}) + b"\n\n"
