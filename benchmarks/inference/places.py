# SPDX-License-Identifier: Apache-2.0
"""The model server that is played, the provider's front and the gateway, each in a process of its
own.

The channels are there already, with a balance: no chain is asked. All else is what a provider and
a user run.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from eth_account import Account

from provider_agent.core.metrics import Metrics
from provider_agent.http.descriptors import open_files
from provider_agent.modules.inference.front import Front
from provider_agent.modules.inference.offers import Payee
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.tables import TABLES
from provider_agent.store import Store
from provider_agent.tx.keys import OperatorKey
from teraproof.gateway import keys, ledger
from teraproof.gateway.hosts import Host, Hosts
from teraproof.gateway.onchain import signing
from teraproof.gateway.serve import compose
from teraproof.gateway.serve import run as serve
from teraproof.gateway.settings import GatewaySettings, KeySettings
from teraproof.gateway.store import Store as GatewayStore
from teraproof.market.signers import KeySigner
from teraproof.protocol import messages
from teraproof.protocol.channels import ChannelConfig, Voucher, channel_id, channels_domain
from teraproof.protocol.inference import InferenceOffer
from teraproof.protocol.payments import Kind, Payment
from teraproof.protocol.x402 import ChannelState, SignedVoucher
from tests.support.model_server import Faults, ModelServer, running

CHAIN = 31337
OPERATOR = Account.from_key(b"\x01" * 32)
PAYER = Account.from_key(b"\x02" * 32)
TOKEN = messages.Domain(CHAIN, "0x" + "11" * 20, "Dollar", "1")
RECEIVER = "0x" + "22" * 20
MODEL = "tiny"
BALANCE = 10**12
#: Units of the token for a token of the prompt and of the answer.
PROMPT, COMPLETION = 15, 60
DOMAIN = channels_domain(CHAIN)
_BUDGET = Decimal(10**10)  # whole tokens: more than all deposits together
#: Channels from this number on are the gateway's; those below are the payers' own.
GATEWAYS = 1_000_000


@dataclass(frozen=True)
class Channel:
    """A payer's channel; parallel requests of one payer have one each, by salt."""

    config: ChannelConfig
    id: bytes

    @classmethod
    def number(cls, salt: int) -> Channel:
        """The channel with this salt."""
        config = ChannelConfig(
            payer=PAYER.address,
            payer_authorizer=PAYER.address,
            receiver=RECEIVER,
            receiver_authorizer=OPERATOR.address,
            token=TOKEN.contract,
            withdraw_delay=86_400,
            salt=salt.to_bytes(32, "big"),
        )
        return cls(config, channel_id(CHAIN, config))

    def payment(self, total: int) -> Payment:
        """A signed voucher over a sum."""
        said = Voucher(self.id, total)
        voucher = SignedVoucher(self.id, total, messages.sign(DOMAIN, said, PAYER))
        return Payment(Kind.VOUCHER, self.config, voucher)


@dataclass(frozen=True)
class Report:
    """MiB of a process before, now and at its peak; units that its channels were charged; seconds
    of CPU since it began.
    """

    before: float
    now: float
    peak: float
    charged: int
    cpu: float


class Nobody:
    """In the place of a chain that is not asked: the channels have their deposits."""

    def balance(self, channel: bytes) -> int:
        """Never called."""
        raise AssertionError("the gateway asks the chain")

    def now(self) -> int:
        """Never called."""
        raise AssertionError("the gateway asks the chain")

    def funds(self, account: str) -> int:
        """Never called."""
        raise AssertionError("the gateway asks the chain")


def _upstream(pipe: Connection, pause: float) -> None:
    open_files()
    with running(ModelServer(Faults(pause=pause), keeps=False)) as server:
        pipe.send(server.url)
        _next(pipe)


def _front(pipe: Connection, upstream: str, folder: str, number: int) -> None:
    sys.setswitchinterval(0.001)  # as the agent does
    store = Store(Path(folder) / "agent.sqlite", tables=(TABLES,))
    book = ChannelBook(store)
    salts = [*range(number), *range(GATEWAYS, GATEWAYS + number)]
    with book.transaction():
        for salt in salts:
            channel = Channel.number(salt)
            book.see(channel.config, ChannelState(channel.id, BALANCE, 0), 1)
    settings = InferenceSettings.model_validate({
        "host": "127.0.0.1", "port": 0, "max_parallel": number + 16, "per_address": number + 64,
        "max_unclaimed": "1000000",
        "models": {MODEL: {
            "upstream": upstream, "prompt_price": str(PROMPT), "max_parallel": number + 16,
            "completion_price": str(COMPLETION),
        }},
    })  # fmt: skip
    front = Front(
        settings, book, Payee(CHAIN, OPERATOR.address, TOKEN, 6, lambda: RECEIVER),
        OperatorKey(OPERATOR), Metrics(), public_url="http://127.0.0.1", files=open_files(),
    )  # fmt: skip
    before = _memory()
    front.start()
    pipe.send((f"http://127.0.0.1:{front.port}/v1", front.offer()["inference"]))
    while _next(pipe) != "end":
        charged = sum(row.charged for row in book.channels(limit=len(salts)))
        pipe.send(_report(before, charged))
    front.close()
    store.close()


def _gateway(pipe: Connection, offer: dict[str, Any], folder: str, number: int) -> None:
    open_files()
    key = Path(folder) / "app.key"
    keys.make_key(key)
    settings = GatewaySettings.model_validate({
        "listen": {"port": 0, "data_dir": Path(folder) / "gateway", "max_parallel": number + 16},
        "pay": {
            "total": _BUDGET, "per_provider": _BUDGET,
            "channels_per_provider": number,
        },
        "route": {"private_networks": ["127.0.0.0/8"], "canary_rate": 0},
        "keys": {"app": KeySettings(file=key, budget=_BUDGET)},
    })  # fmt: skip
    store = GatewayStore(settings.listen.data_dir)
    host = Host(RECEIVER, OPERATOR.address, InferenceOffer.from_json(offer))
    store.run(partial(_insert, host=host, number=number))
    hosts = Hosts()
    hosts.replace([host])
    before = _memory()
    sign = signing(KeySigner(PAYER, "payer"))
    gateway = compose(settings, store, hosts, Nobody(), PAYER.address, sign, decimals=6)

    def listening(port: int) -> None:
        pipe.send((f"http://127.0.0.1:{port}/v1", keys.read_key(key)))
        threading.Thread(target=watch, daemon=True).start()

    def watch() -> None:
        while _next(pipe) != "end":
            channels = gateway.relay.means.purse.ledger.channels
            pipe.send(_report(before, sum(one.charged for one in channels.values())))
        loop.call_soon_threadsafe(task.cancel)

    loop = asyncio.new_event_loop()
    task = loop.create_task(serve(gateway, partial(list, [host]), listening))
    with suppress(asyncio.CancelledError):
        loop.run_until_complete(task)


def _insert(db: sqlite3.Connection, host: Host, number: int) -> None:
    for salt in range(GATEWAYS, GATEWAYS + number):
        made = Channel.number(salt)
        row = ledger.Channel(made.id, host.owner, host.operator, host.url, CHAIN, made.config)
        ledger.insert(db, row)
        ledger.keep(db, made.id, balance=BALANCE)


def _next(pipe: Connection) -> str:
    """What is said next. A benchmark that has died says the same as one that ends."""
    try:
        return str(pipe.recv())
    except EOFError:
        return "end"


def _report(before: float, charged: int) -> Report:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Report(before, _memory(), peak, charged, time.process_time())


def _memory() -> float:
    """MiB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


@dataclass
class Market:
    """The three servers. `key` is for the gateway."""

    upstream: str
    front: str
    gateway: str
    key: str
    pipes: tuple[Connection, Connection]

    def reports(self) -> tuple[Report, Report]:
        """How the front and the gateway stand."""
        for pipe in self.pipes:
            pipe.send("report")
        front, gateway = (pipe.recv() for pipe in self.pipes)
        return front, gateway


@contextmanager
def market(number: int, pause: float, folder: Path) -> Iterator[Market]:
    """The three servers, with as many channels to the front and as many of the gateway's. `pause`
    is in seconds, `folder` is where the stores are.
    """
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=folder) as place, ExitStack() as stack:

        def begin(target: Any, *args: Any) -> tuple[Any, Connection]:
            here, there = spawn.Pipe()
            process = spawn.Process(target=target, args=(there, *args), daemon=True)
            process.start()
            there.close()  # so that its end is seen
            stack.callback(process.join)
            stack.callback(here.send, "end")
            return here.recv(), here

        url, _ = begin(_upstream, pause)
        (front, offer), fronts = begin(_front, url, place, number)
        (gateway, key), gateways = begin(_gateway, offer, place, number)
        yield Market(url, front, gateway, key, (fronts, gateways))
