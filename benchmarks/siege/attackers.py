# SPDX-License-Identifier: Apache-2.0
"""Strangers with little money and bad intents: a process of their own, a thread for each.

They are other machines in life. So they yield to the agent where they share its processors.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from teraproof.client.jobs import AgentClient
from teraproof.errors import LocalError
from teraproof.protocol.jobspec import JobSpec, canonical, parse
from teraproof.protocol.terms import Order
from tests.agent_e2e.chain import TPF, USD
from tests.agent_e2e.world import World
from tests.support.anvil import AnvilError
from tests.support.processes import with_argument

FILLS = """\
import mmap, os
os.mkdir("out")
n = 0
try:
    while True:
        with open(f"/tmp/{n}", "wb+") as f:
            f.truncate(1 << 20)
            m = mmap.mmap(f.fileno(), 1 << 20)
            m.write(os.urandom(1 << 20))
        os.unlink(f"/tmp/{n}")
        n += 1
        globals()[f"m{n}"] = m
except BaseException:
    pass
"""
CROWDS = """\
import os
os.mkdir("out")
n = 0
while True:
    open(f"out/{n}", "w").close()
    n += 1
"""
_NICE = 10
_ADDRESSES = 8
_STEPS, _STEP = 3, 30  # seconds: together within chain.clock_margin_seconds
_BATCH = 50  # posts in one HTTP request
_LARGE = 2_400  # inputs of a large specification: about 240 KB
_DAY = 86_400


@dataclass(frozen=True)
class Report:
    """Who they are, what they have done by name, and the units of USD that they have paid."""

    accounts: list[str]
    done: dict[str, int]
    tokens_paid: int


class Crowd:
    """The attackers as a process. The accounts are there when it is made, the attacks begin with
    `start`.
    """

    def __init__(self, world: World, orders: int, seconds: float) -> None:
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._process = context.Process(
            target=_attack, args=(world, orders, seconds, there), daemon=True
        )
        self._process.start()
        self._here.recv()  # they have money

    def start(self) -> None:
        """Let them loose."""
        self._here.send("start")

    def stop(self) -> Report:
        """Call them back."""
        self._here.send("stop")
        report: Report = self._here.recv()
        self._process.join(timeout=90)
        self._process.kill()
        return report


def _address() -> str:
    """One of theirs: they come from a few, and from none that an honest tenant has."""
    return f"127.0.1.{random.randint(1, _ADDRESSES)}"


def _from_afar() -> httpx.HTTPTransport:
    return httpx.HTTPTransport(local_address=_address())


def _attack(world: World, orders: int, seconds: float, orders_of: Connection) -> None:
    os.nice(_NICE)
    world.anvil._client = httpx.Client(timeout=30.0, trust_env=False)  # the old one is shared
    attackers = Attackers(world, orders, seconds)
    orders_of.send("ready")
    orders_of.recv()
    attackers.start()
    orders_of.recv()
    attackers.stop()
    orders_of.send(attackers.report())


class Attackers:
    """The whole crowd against the agent of one world, in this process; see `Crowd`."""

    def __init__(self, world: World, orders: int, seconds: float) -> None:
        self._world, self._orders, self._seconds = world, orders, seconds
        self._url = f"http://127.0.0.1:{world.api_port}"
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self.done: Counter[str] = Counter()
        self.junk = [self._funded() for _ in range(6)]
        self.paying: LocalAccount = self._funded()
        self.tokens_paid = 0
        self._number = 0

    def report(self) -> Report:
        """What they have done so far."""
        accounts = [account.address.lower() for account in (*self.junk, self.paying)]
        return Report(accounts, dict(self.done), self.tokens_paid)

    def start(self) -> None:
        """Begin all attacks at once."""
        crowd: list[Callable[[], None]] = [
            self._junk_orders,
            self._large_specs,
            self._idle_sockets,
            self._clock_steps,
            self._hostile_jobs,
            self._kills,
            *(self._quotes for _ in range(10)),
            *(self._uploads for _ in range(4)),
        ]
        for attack in crowd:
            thread = threading.Thread(target=self._keep_on, args=(attack,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End them."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _keep_on(self, attack: Callable[[], None]) -> None:
        """Attackers do not give up at the first error, nor count their errors."""
        while not self._stopped.is_set():
            with contextlib.suppress(
                LocalError, httpx.HTTPError, AnvilError, OSError, AssertionError, ValueError
            ):
                attack()
            self._stopped.wait(0.5)

    def _client(self, account: LocalAccount) -> AgentClient:
        return AgentClient(self._url, account, transport=_from_afar())

    def _funded(self) -> LocalAccount:
        account: LocalAccount = Account.create()
        world = self._world
        world.anvil.set_balance(account.address, 100 * 10**18)
        world.deployment.transact(
            world.payment.call(account, "mint", account.address, 10**4 * USD),
            world.payment.call(account, "approve", world.jobs.address, 2**256 - 1),
        )
        return account

    # ------------------------------------------------------------------ on chain

    def _order(self, spec: bytes, **changes: Any) -> Order:
        self._number += 1
        values: dict[str, Any] = {
            "spec": spec,
            "start_price": 0,
            "max_price": 1,
            "collateral": 0,
            "duration": 3_600,
            "auction": 20 * _DAY,
            "min_stake": 0,
            "min_score": 0,
            "allow_root": bytes(32),
            "nonce": self._number,
        }
        return Order(**{**values, **changes})

    def _junk_orders(self) -> None:
        """Orders that nobody wants, spread over the siege; a large specification for some."""
        world, begin = self._world, time.monotonic()
        with httpx.Client(timeout=30.0, trust_env=False) as client:
            while self.done["junk orders"] < self._orders and not self._stopped.is_set():
                due = self._orders * min(1.0, (time.monotonic() - begin) / (0.7 * self._seconds))
                if self.done["junk orders"] >= due:
                    self._stopped.wait(0.2)
                    continue
                batch = []
                for number in range(_BATCH):
                    order = self._order(os.urandom(32))
                    call = world.jobs.call(
                        self.junk[number % len(self.junk)], "post", order.abi_tuple()
                    )
                    request = {"from": call.sender, "to": call.to, "gas": hex(150_000)}
                    request["data"] = "0x" + call.data.hex()
                    batch.append(
                        {"jsonrpc": "2.0", "id": number, "method": "eth_sendTransaction"}
                        | {"params": [request]}
                    )
                client.post(world.anvil.url, json=batch)
                self.done["junk orders"] += len(batch)
        self._stopped.wait()

    def _hostile_jobs(self) -> None:
        """Jobs that are paid for, and fill disk, memory or the table of files."""
        world = self._world
        script = random.choice([FILLS, CROWDS])
        self._number += 1
        folder = world.directory / "hostile" / str(self._number)
        folder.mkdir(parents=True)
        (folder / "job.py").write_text(script)
        spec = world.spec(folder, timeout_seconds=20)
        order = self._order(
            spec.digest(), start_price=USD, max_price=USD, collateral=TPF, duration=_DAY
        )
        world.jobs.send(self.paying, "post", order.abi_tuple())
        self.tokens_paid += USD
        self.done["hostile jobs"] += 1
        with contextlib.suppress(LocalError), self._client(self.paying) as client:
            client.upload(spec, folder, wait=30)
        self._stopped.wait(15)

    def _clock_steps(self) -> None:
        """The chain's clock jumps, as after an outage. Beyond its margin an agent takes nothing."""
        if not self._stopped.wait(self._seconds / 5) and self.done["clock steps"] < _STEPS:
            self._world.anvil.rpc("evm_increaseTime", hex(_STEP))
            self.done["clock steps"] += 1

    # ------------------------------------------------------------------ over HTTP

    def _junk_spec(self, inputs: int) -> JobSpec:
        named = [
            {"path": f"in/{n}", "sha256": hashlib.sha256(os.urandom(8)).hexdigest(), "size": 1}
            for n in range(inputs)
        ]
        return parse(
            canonical(
                {
                    "version": 1,
                    "kind": "batch",
                    "name": "junk",
                    "runtime": "python-ml",
                    "command": ["true"],
                    "env": {"N": os.urandom(8).hex()},
                    "inputs": named,
                    "outputs": [],
                    "resources": {"cpus": 1, "memory_mb": 16, "disk_mb": 1, "gpus": 0},
                    "timeout_seconds": 1,
                    "deterministic": True,
                    "network": False,
                }
            )
        )

    def _large_specs(self) -> None:
        """An order, and a specification of 240 KB for it."""
        account = random.choice(self.junk)
        spec = self._junk_spec(_LARGE)
        world = self._world
        world.jobs.send(account, "post", self._order(spec.digest()).abi_tuple())
        self.done["large specifications sent"] += 1
        with self._client(account) as client:
            client.upload_spec(spec)
        self.done["large specifications taken"] += 1

    def _quotes(self) -> None:
        """An account without money asks for quotes as fast as it can."""
        account: LocalAccount = Account.create()
        spec = self._junk_spec(0)
        with self._client(account) as client:
            client.login()
            with contextlib.suppress(LocalError):
                client.upload_spec(spec)
            token = client._http._token  # quotes are asked for faster than a client does
            with httpx.Client(timeout=10.0, transport=_from_afar()) as http:
                while not self._stopped.is_set():
                    http.post(
                        f"{self._url}/v1/quotes",
                        json={"spec": spec.digest().hex()},
                        headers={"authorization": f"Bearer {token}"},
                    )
                    self.done["quotes asked for"] += 1

    def _uploads(self) -> None:
        """Large files for an order that pays nothing."""
        account = random.choice(self.junk)
        folder = self._world.directory / "flood" / os.urandom(8).hex()
        folder.mkdir(parents=True)
        (folder / "big").write_bytes(os.urandom(8 << 20))
        spec = self._world.spec(folder)
        self._world.jobs.send(account, "post", self._order(spec.digest()).abi_tuple())
        self.done["uploads tried"] += 1
        with self._client(account) as client:
            client.upload(spec, folder, wait=5)
        self.done["uploads taken"] += 1

    def _idle_sockets(self) -> None:
        """Connections that say nothing."""
        held: list[socket.socket] = []
        try:
            while not self._stopped.wait(0.05):
                with contextlib.suppress(OSError):
                    held.append(
                        socket.create_connection(
                            ("127.0.0.1", self._world.api_port), 1, (_address(), 0)
                        )
                    )
                    self.done["idle sockets"] += 1
                if len(held) > 400:
                    held.pop(0).close()
        finally:
            for one in held:
                one.close()

    # ------------------------------------------------------------------ on the machine

    def _kills(self) -> None:
        """A supervisor dies by kill -9; the agent itself is killed by the siege."""
        if self._stopped.wait(random.uniform(15, 30)):
            return
        runs = str(self._world.directory / "agent" / "data" / "runs")
        found = [pid for pid, line in with_argument(runs).items() if "supervisor" in line]
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(found), signal.SIGKILL)
                self.done["supervisors killed"] += 1
