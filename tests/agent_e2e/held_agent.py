# SPDX-License-Identifier: Apache-2.0
"""An agent that its node holds up: its cycles make one request at a time, when a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.agent_e2e.lease_rig import LeaseRig

_Found = TypeVar("_Found")
_MOST = 4_000  # requests until something has to be so
_LOOK = 0.05  # seconds
_HANG = 120.0  # seconds without a request: the loop hangs, and the test fails


class HeldAgent:
    """See the module. Between two calls of a test the loop stands still, at a request to its node;
    the API's and the data plane's threads go on.
    """

    def __init__(self, agent: LeaseRig) -> None:
        self._agent = agent
        self._turn = threading.Condition()
        self._allowed = 0
        self._stands = self._free = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="held loop")
        self._send = agent.pool._send
        self.requests = 0

    def _run(self) -> None:
        try:
            while not self._free:
                self._agent.cycle()
        except BaseException as error:
            self._failure = error
        with self._turn:
            self._stands = True
            self._turn.notify_all()

    def _ask(self, *given: Any) -> Any:
        if threading.current_thread() is self._thread:
            with self._turn:
                self._stands = True
                self._turn.notify_all()
                self._turn.wait_for(lambda: self._allowed or self._free)
                self._allowed -= 1
                self._stands = False
                self.requests += 1
        return self._send(*given)

    def step(self, requests: int = 1) -> None:
        """Let it make that many requests, and wait until it stands still again."""
        for _ in range(requests):
            with self._turn:
                self._allowed, self._stands = 1, False
                self._turn.notify_all()
                self._wait()

    def _wait(self) -> None:
        if not self._turn.wait_for(lambda: self._stands, _HANG):
            raise AssertionError("the agent's loop hangs")
        if self._failure is not None:
            raise self._failure

    def until(self, look: Callable[[], object], what: str) -> None:
        """Let it go on, and stop it at the very request after which something is so."""
        for _ in range(_MOST):
            if look():
                return
            self.step()
        raise AssertionError(f"no {what}: {self._agent.row()}, {self._agent.intents()}")

    def meanwhile(self, act: Callable[[], _Found], refused: threading.Event) -> _Found:
        """What somebody else does, while the agent stands still until it has `refused` that for the
        first time. Then it goes on, until it is done.
        """
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(act)
            while not done.done():
                if refused.wait(_LOOK):
                    self.step()
            return done.result()


@contextmanager
def held(agent: LeaseRig) -> Iterator[HeldAgent]:
    """The agent's cycles by requests; afterwards, the rest of the last one at once."""
    made = HeldAgent(agent)
    agent.pool._send = made._ask  # type: ignore[method-assign,assignment]  # any arguments
    try:
        made._thread.start()
        with made._turn:
            made._wait()
        yield made
    finally:
        with made._turn:
            made._free = True
            made._turn.notify_all()
        made._thread.join()
        del agent.pool._send  # the method again
    if made._failure is not None:
        raise made._failure
