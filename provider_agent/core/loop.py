# SPDX-License-Identifier: Apache-2.0
"""The loop: one cycle after the other, the modules in their order, an error of one stops no other.

1. `Sender.tick` brings every intent in line with the chain and pushes what waits.
2. A block behind the head is pinned, events up to it are read, and the provider's entry.
3. Each module reconciles, those with a bond at stake first.
4. `Sender.tick` again, so that new intents leave at once.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from threading import Event as Flag

from provider_agent.core.head import PinnedHead
from provider_agent.core.health import Check
from provider_agent.core.module import Context, Cycle, Module
from provider_agent.core.policy import Policy, contained
from provider_agent.core.watch import Watch
from provider_agent.store import IntentState
from teraproof.contracts.base import Event
from teraproof.rpc.types import BlockRef

CYCLE_SECONDS = 60.0  # after which a cycle that is not done leaves the rest for the next one
_LEAST_SHARE = 1.0  # seconds that a module gets when those before it took too long
_HURRIED_CYCLES = 8  # in a row, after cycles that wrote something
_MEASURE_EVERY = 5.0  # seconds between two looks at what is costly to measure
_CHAIN = "chain"  # the part of a cycle that no module is needed for, nor can do without


class Loop:
    """See the module. `seconds` is what a cycle may take."""

    def __init__(
        self,
        context: Context,
        modules: Sequence[Module],
        watch: Watch,
        *,
        seconds: float = CYCLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        chain = context.settings.chain
        self._context, self._modules, self._watch = context, tuple(modules), watch
        self._head = PinnedHead(context.pool, chain.confirmations)
        self._pause, self._seconds, self._clock = chain.poll_seconds, seconds, clock
        #: Seconds without success after which the agent, or a part of it, is not fit for work.
        self.max_age = 60 + 10 * chain.poll_seconds
        self._policy = Policy(
            context.store.path,
            context.metrics,
            pause=self._pause,
            max_age=self.max_age,
            clock=clock,
        )
        self._read: bytes | None = None  # hash of the block up to which events are read
        self._measured_at: float | None = None
        #: Unix time at which the last cycle ended that could read the chain; None before the first.
        self.last_cycle: float | None = None

    def checks(self) -> list[Check]:
        """For the readiness report: each part of the cycle, and whether it works."""
        return self._policy.checks()

    def run(self, stop: Flag) -> None:
        """Go on until `stop` is set. Raises what ends an agent: KeyInUse, StoreError."""
        hurried = 0
        while not stop.is_set():
            written = self._context.store.changes()
            went_well = self.cycle()
            if not went_well:
                self._outlast(stop, max(self._pause, self._policy.wait(_CHAIN)))
            elif self._context.store.changes() != written and hurried < _HURRIED_CYCLES:
                # One step often makes the next one possible: do not sleep on it.
                hurried += 1
            else:
                hurried = 0
                wanted = list(self._wanted())
                self._context.newest.hurried = bool(wanted)
                self._rest(stop, min([self._pause, *wanted]))

    def _outlast(self, stop: Flag, seconds: float) -> None:
        """Until the chain is tried again: what runs needs looking after, whatever nodes do."""
        until = self._clock() + seconds
        while not stop.is_set():
            for module in self._modules:
                self._watch.move(f"module {module.name}, without the chain")
                self._policy.run(f"{module.name} without the chain", module.keep_up)
            left = until - self._clock()
            self._rest(stop, max(0.0, min(self._pause, left)))
            if left <= self._pause:
                return

    def _wanted(self) -> Iterator[float]:
        """Seconds after which modules want to look again."""
        for module in self._modules:
            again = module.look_again
            if again is not None:
                yield max(again, self._policy.wait(module.name))

    def _rest(self, stop: Flag, seconds: float) -> None:
        stop.wait(seconds)
        self._watch.move("rest")

    def cycle(self) -> bool:
        """One cycle; whether the chain could be read, without which there is nothing to do."""
        metrics = self._context.metrics
        with metrics.reconcile_seconds.time():
            went_well = self._policy.run(_CHAIN, self._cycle)
        if went_well:
            self.last_cycle = time.time()
            metrics.last_reconcile.set(self.last_cycle)
        else:
            metrics.reconcile_failures.inc()
        return went_well

    def _cycle(self) -> None:
        context = self._context
        until = self._clock() + self._seconds
        self._watch.move("sending transactions")
        context.store.check_there()
        head = context.sender.tick()
        context.pace.see(head)
        block = self._head.pin(head)
        self._watch.move("reading events")
        # Events are hints; what is owed follows from state, which may be there without them.
        self._policy.run("events", lambda: self._read_events(block, until))
        self._watch.move("reading the provider's entry")
        self._policy.run("gas", lambda: context.sender.reserve.look(block))
        provider = context.standing.look(
            block,
            idle=all(m.is_idle for m in self._modules),
            last_mined=context.sender.last_mined,
        )
        self._reconcile(Cycle(block, head, provider, until, self._clock))
        self._watch.move("sending transactions")
        if context.store.intents_in(IntentState.PLANNED):
            context.sender.tick()
        self._measure(head, block)

    def _reconcile(self, cycle: Cycle) -> None:
        """Each module has its share of the time, so that a slow one starves no other."""
        for done, module in enumerate(self._modules):
            self._watch.move(f"module {module.name}")
            share = max(_LEAST_SHARE, cycle.time_left() / (len(self._modules) - done))
            mine = replace(cycle, until=self._clock() + share)
            self._policy.run(module.name, partial(module.reconcile, mine))

    def _read_events(self, block: BlockRef, until: float) -> None:
        feed = self._context.feed
        if block.hash == self._read and not feed.looks_back:
            return

        def go_on() -> bool:
            self._watch.move()
            return self._clock() < until

        if feed.poll(block, self._consume, go_on):
            self._read = block.hash

    def _consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        for module in self._modules:
            # One that shows a bug must not keep the events from the others.
            with contained(f"{module.name}: events were skipped"):
                module.consume(events, again)

    def _measure(self, head: BlockRef, block: BlockRef) -> None:
        metrics = self._context.metrics
        metrics.head_block.set(head.number)
        metrics.pinned_block.set(block.number)
        metrics.lag_seconds.set(max(0.0, time.time() - block.timestamp))
        now = self._clock()
        if self._measured_at is not None and now - self._measured_at < _MEASURE_EVERY:
            return
        self._measured_at = now
        self._watch.move("measuring")
        self._policy.run("metrics", self._measure_machine)
        for module in self._modules:
            self._policy.run(f"{module.name} metrics", module.measure)

    def _measure_machine(self) -> None:
        context, metrics = self._context, self._context.metrics
        metrics.disk_free_bytes.set(shutil.disk_usage(context.settings.agent.data_dir).free)
        metrics.gas_balance.set(context.sender.reserve.balance)
