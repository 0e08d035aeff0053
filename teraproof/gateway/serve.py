# SPDX-License-Identifier: Apache-2.0
"""The gateway put together, and run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from teraproof.amounts import units
from teraproof.errors import LocalError, TeraproofError, WrongInput
from teraproof.gateway import log as activity
from teraproof.gateway.door import Door
from teraproof.gateway.examine import Lineups
from teraproof.gateway.hosts import Host, Hosts
from teraproof.gateway.identity import Counter
from teraproof.gateway.keys import Keys
from teraproof.gateway.ledger import Ledger
from teraproof.gateway.lines import Lines
from teraproof.gateway.means import Means
from teraproof.gateway.memory import Memory
from teraproof.gateway.purse import Budget, ChainView, Purse, Sign
from teraproof.gateway.relay import Relay
from teraproof.gateway.room import Room
from teraproof.gateway.settings import GatewaySettings
from teraproof.gateway.store import Store
from teraproof.listening import listener

log = logging.getLogger(__name__)

_GRACE_SECONDS = 10  # for answers that run when a signal comes
_PRUNE_SECONDS = 3_600.0
_LOOK_SECONDS = 0.5
_IDLE_SECONDS = 8.0  # that a connection to a host is kept: less than our agents keep it
_FLUSH_SECONDS = 5.0  # between two writes of what was learned of hosts


@dataclass
class Gateway:
    """A gateway that is ready to answer; `app` is its endpoint."""

    settings: GatewaySettings
    store: Store
    hosts: Hosts
    relay: Relay
    app: ASGIApp

    async def close(self) -> None:
        """Finish what goes on, then close connections and files."""
        await self.relay.close()
        self.relay.means.lines.close()
        await self.relay.memory.flush()
        self.store.close()


def compose(
    settings: GatewaySettings,
    store: Store,
    hosts: Hosts,
    chain: ChainView,
    payer: str,
    sign: Sign,
    *,
    decimals: int,
    counters: Mapping[str, Counter] | None = None,
) -> Gateway:
    """All parts, from what the store remembers. `payer` is the account whose key `sign` uses,
    `counters` are the tokenizers of models.
    """
    store.run(activity.close_lost)
    store.run(lambda db: activity.prune(db, settings.listen.log_days))
    ledger = Ledger.load(store)
    keys = Keys(settings.keys, decimals, activity.spent(store))
    for channel, key in activity.unclear_keys(store).items():
        keys.unclear(key, channel, ledger.channels[channel].unclear)
    lineups = Lineups(settings.route.trusted, settings.route.canary_rate, counters)
    hosts.quality = lineups
    hosts.dropped.update(activity.dropped(store))
    memory = Memory(store, hosts, lineups, settings.listen.evidence_days)
    memory.load()
    purse = Purse(ledger, chain, payer, sign, budget_of(settings, decimals))
    means = Means(
        Lines(settings.route.reach, kept_seconds=_IDLE_SECONDS),
        purse,
        keys,
        settings.route,
        settings.pay.step_tokens,
        decimals,
        Room(settings.listen.max_held_bytes),
    )
    relay = Relay(means, hosts, lineups, memory)
    return Gateway(settings, store, hosts, relay, Door(relay, settings).app())


def budget_of(settings: GatewaySettings, decimals: int) -> Budget:
    """What may be deposited, in units of the token."""
    pay = settings.pay
    return Budget(
        total=units(f"{pay.total:f}", decimals, "pay.total"),
        per_provider=units(f"{pay.per_provider:f}", decimals, "pay.per_provider"),
        deposit=units(f"{pay.deposit:f}", decimals, "pay.deposit"),
        channels_per_provider=pay.channels_per_provider,
    )


# ---------------------------------------------------------------------- running


class _Server(uvicorn.Server):
    """Says when it listens, and where. A signal ends it, and what comes behind it goes on."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[int], None]) -> None:
        super().__init__(config)
        self._listening = listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """While it serves, signals end the serving and not the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started and self.servers and self.servers[0].sockets:
            self._listening(self.servers[0].sockets[0].getsockname()[1])


async def run(
    gateway: Gateway,
    read: Callable[[], Iterable[Host]],
    listening: Callable[[int], None],
    look: Callable[[], None] | None = None,
) -> None:
    """Answer until a signal ends it. `read` finds the hosts, in a thread; `look` is called twice
    per second. LocalError when the address cannot be had.
    """
    settings = gateway.settings
    config = uvicorn.Config(
        gateway.app,
        host=settings.listen.host,
        port=settings.listen.port,
        log_level="warning",
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    held = _bind(settings.listen.host, settings.listen.port)
    tasks = [
        asyncio.create_task(_refresh(gateway, read)),
        asyncio.create_task(_flush(gateway.relay.memory)),
    ]
    if look is not None:
        tasks.append(asyncio.create_task(_watch(look)))
    try:
        await _Server(config, listening).serve(sockets=[held])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await gateway.close()


def _bind(host: str, port: int) -> socket.socket:
    try:
        return listener(host, port, 1_024)
    except OSError as error:
        raise WrongInput(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another listen.port or "
            "listen.host"
        ) from None


async def _refresh(gateway: Gateway, read: Callable[[], Iterable[Host]]) -> None:
    """Read the hosts again and again; what cannot be read now stays as it was."""
    pruned = 0.0
    while True:
        await asyncio.sleep(gateway.settings.route.refresh_seconds)
        try:
            gateway.hosts.replace(await asyncio.to_thread(read))
        except TeraproofError as error:
            gateway.relay.live.tell(f"the providers cannot be read now: {error}")
            log.warning("the providers cannot be read now: %s", error)
        if time.monotonic() > pruned + _PRUNE_SECONDS:
            pruned = time.monotonic()
            await _prune(gateway)


async def _prune(gateway: Gateway) -> None:
    """Forget what is too old; what cannot be written now is forgotten later."""
    try:
        await gateway.store.write(partial(activity.prune, days=gateway.settings.listen.log_days))
        await gateway.relay.memory.prune()
    except LocalError as error:
        gateway.relay.live.tell(str(error))
        log.warning("nothing is forgotten now: %s", error)


async def _flush(memory: Memory) -> None:
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        await memory.flush()


async def _watch(look: Callable[[], None]) -> None:
    while True:
        look()
        await asyncio.sleep(_LOOK_SECONDS)
