# SPDX-License-Identifier: Apache-2.0
"""The data plane as a whole: a thread, an event loop, and the doors on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from eth_account.signers.local import LocalAccount

from provider_agent.dataplane.access import Access
from provider_agent.dataplane.door import Door
from provider_agent.dataplane.entrance import Entrance, Places
from provider_agent.dataplane.holders import Holding, Leaseholders, Phase
from provider_agent.dataplane.identity import Identities
from provider_agent.dataplane.limits import PlaneLimits, fitting
from provider_agent.dataplane.outer import OuterPorts
from provider_agent.dataplane.public import OuterPort, Public
from provider_agent.dataplane.published import Published
from provider_agent.dataplane.revoked import Revoked
from provider_agent.dataplane.streams import Streams
from provider_agent.http.clients import RateLimit
from provider_agent.http.crowd import Crowd
from provider_agent.http.server import listen
from provider_agent.runners.lease import LeaseRunner
from teraproof.errors import LocalError
from teraproof.protocol import siwe
from teraproof.protocol.dataplane import What
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Domain

log = logging.getLogger(__name__)

_CHECKING = 4  # threads that check proofs
_SHORT = 8  # threads for short answers of the runner
_STARTING = 10.0
_STOPPING = 15.0


@dataclass(frozen=True)
class PlaneSettings:
    """Where the data plane listens. `outer` is the range of the public ports, both ends included;
    None offers none. At `names_port` public ports are told apart by the names that their tenants
    `accept`; None offers none.
    """

    state: Path
    """A directory of the agent, for the numbers of outer ports and what is served there."""
    host: str = "0.0.0.0"  # noqa: S104 - tenants come from everywhere
    port: int = 0
    outer: tuple[int, int] | None = None
    names_port: int | None = None
    containers_here: bool = False
    """Containers share this machine's addresses: then its own ports look like theirs."""
    limits: PlaneLimits = field(default_factory=PlaneLimits)


class DataPlane:
    """See the module. `start` binds, so its errors are seen; the rest is for any thread."""

    def __init__(
        self,
        settings: PlaneSettings,
        domain: Domain,
        operator: LocalAccount,
        holders: Leaseholders,
        runner: LeaseRunner,
        eth_call: siwe.EthCall,
        taken_back: Callable[[str], None] = lambda account: None,
    ) -> None:
        """`taken_back` hears of an account that has taken its keys back, in a thread."""
        self._taken_back = taken_back
        self._settings, self._domain, self._operator = settings, domain, operator
        self._holders, self._runner, self._eth_call = holders, runner, eth_call
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._door: Door | None = None
        self._public: Public | None = None
        self._revoked: Revoked | None = None
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._identities: Identities | None = None
        #: Connections that got nothing, since the start: at the tenants' door and at public ports
        #: those for which there was no place, and streams whose request was refused.
        self.refused = {"tenants": 0, "public": 0, "streams": 0}
        #: The port in use, also when 0 was asked for; valid after `start`.
        self.port = settings.port

    @property
    def running(self) -> bool:
        """Whether the thread serves."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Binds and serves. LocalError when a port is taken, or not ours."""
        self._thread = threading.Thread(target=self._run, name="data plane", daemon=True)
        self._thread.start()
        if not self._started.wait(_STARTING) or self._failed is not None:
            failed = self._failed
            self.stop()
            if isinstance(failed, LocalError):
                raise failed
            raise LocalError("the data plane does not start; see the log", Code.FAILED)

    def stop(self) -> None:
        """Ends every stream and the thread."""
        loop, thread = self._loop, self._thread
        if loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(self._stopping.set)
        if thread is not None:
            thread.join(_STOPPING)
        self._thread = None

    @property
    def expires(self) -> int:
        """When its certificate runs out, unix seconds; 0 before the start."""
        return 0 if self._identities is None else self._identities.expires

    def end(self, lease: bytes) -> None:
        """Ends a lease's streams and public ports now; without it the sweep does, soon."""
        self._on_loop(lambda: self._end(lease))

    def sweep(self) -> None:
        """Looks at all leases now and not at the next time."""
        loop = self._loop
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._sweep(), loop).result(_STARTING)

    def public_ports(self, lease: bytes) -> tuple[OuterPort, ...]:
        """Where the public reaches a lease, as of the last sweep."""
        return () if self._public is None else self._public.of(lease)

    # ------------------------------------------------------------------ on the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failed = error
            if self._started.is_set():
                log.exception("data plane: it ended by a bug")
        finally:
            self._started.set()

    async def _serve(self) -> None:
        settings = self._settings
        limits = fitting(settings.limits, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._identities = identities = Identities(self._domain, self._operator)
        checking = ThreadPoolExecutor(_CHECKING, "data plane proofs")
        programs = ThreadPoolExecutor(2 * limits.programs + _SHORT, "data plane programs")
        async with contextlib.AsyncExitStack() as stack:
            for pool in (checking, programs):
                stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            streams = Streams(
                self._runner, programs, limits.connect_seconds, local=settings.containers_here
            )
            self._revoked = revoked = Revoked(settings.state / "revoked.json")
            self._public = Public(
                OuterPorts(settings.state / "outer-ports.json", settings.outer),
                Published(settings.state, bytes(self._operator.key)),
                identities,
                streams,
                settings.host,
                limits,
                partial(self._count, "public"),
            )
            stack.push_async_callback(self._public.close)
            self._door = Door(
                Access(self._holders, self._domain, self._eth_call, limits, revoked),
                identities,
                streams,
                {What.PORTS: self._public.ports, What.PUBLISH: self._public.publish},
                revoked,
                limits,
                checking,
                partial(self._count, "streams"),
                self._taken_back,
            )
            self._public.meter_of = self._door.meter
            entrance = Entrance(
                listen(settings.host, settings.port, "leases.data_port"),
                Crowd(limits.connections, limits.connections_per_address),
                RateLimit(
                    60 * limits.new_connections_per_second, 4 * limits.new_connections_per_second
                ),
                self._door.serve,
                Places(limits.connections),
                partial(self._count, "tenants"),
            )
            stack.push_async_callback(entrance.close)
            self.port = entrance.port
            if settings.names_port is not None:
                self._public.open_names(
                    listen(settings.host, settings.names_port, "leases.names_port")
                )
            self._started.set()
            await self._sweeping()

    async def _sweeping(self) -> None:
        assert self._stopping is not None
        while not self._stopping.is_set():
            await self._sweep()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.limits.sweep_seconds):
                    await self._stopping.wait()

    async def _sweep(self) -> None:
        """Ends what has ended, and opens the public ports of what was confirmed."""
        assert self._door and self._public and self._revoked
        loop = asyncio.get_running_loop()
        try:
            are_all, holdings = await loop.run_in_executor(None, self._look)
        except Exception as error:  # noqa: BLE001 - whatever fails there ends nothing here
            log.warning("data plane: leases cannot be looked at: %s", error)
            return
        confirmed = {one.lease: one for one in holdings if one.phase is Phase.CONFIRMED}
        going = {one.lease for one in holdings if one.phase is not Phase.ENDED}
        self._door.keep(confirmed)
        if are_all:
            self._revoked.keep_only(going)
        try:
            await self._public.keep(confirmed, going if are_all else None)
        except Exception:
            log.exception("data plane: the public ports are not as they should be")

    def _look(self) -> tuple[bool, Collection[Holding]]:
        return self._holders.are_all_known(), self._holders.holdings()

    def _count(self, what: str) -> None:
        self.refused[what] += 1

    def _end(self, lease: bytes) -> None:
        assert self._door is not None and self._public is not None
        self._door.end(lease)
        self._public.end(lease)

    def _on_loop(self, work: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(work)
