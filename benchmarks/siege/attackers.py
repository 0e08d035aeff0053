# SPDX-License-Identifier: Apache-2.0
"""Strangers with little money and bad intents: a process of their own, a thread for each.

They are other machines in life. So they yield to the agent where they share its processors. Each
attack is counted by how it went: a siege of which an attack was never made shows nothing. The
chain's clock has one owner, anvil, which mines by itself; here it is only moved on by a difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from teraproof.client.jobs import AgentClient
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code, WireError
from teraproof.protocol.jobspec import JobSpec, canonical, parse
from teraproof.protocol.terms import Order
from tests.agent_e2e.chain import TPF, USD
from tests.agent_e2e.world import World
from tests.support.anvil import AnvilError
from tests.support.processes import with_argument
from tests.support.wire import Wire

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
_UNAUTHORIZED = 401
_FAREWELL = 120.0  # seconds
_DAY = 86_400


#: By attack and by how it went: "taken", or a code of the agent's, or what broke.
Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Report:
    """Who they are, what they have done, and the units of USD that they have paid.

    `broken` are attacks whose thread has died: then the siege was none.
    """

    accounts: list[str]
    done: Counts
    tokens_paid: int
    broken: list[str]


class AttackersFailed(AssertionError):
    """The attack has a fault of its own: what was measured says nothing."""


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

    def look(self) -> None:
        """AttackersFailed when they, or one of their threads, are no more."""
        alive, broken = self._process.is_alive(), list[str]()
        with contextlib.suppress(EOFError):
            while self._here.poll():
                broken += self._here.recv()
        if broken or not alive:
            raise AttackersFailed(f"the attackers ended: {'; '.join(broken) or 'see above'}")

    def stop(self) -> Report:
        """Call them back. Raises AttackersFailed."""
        self.look()
        self._here.send("stop")
        if not self._here.poll(_FAREWELL):
            raise AttackersFailed("the attackers do not come back")
        report: Report = self._here.recv()
        self._process.join(timeout=30)
        self._process.kill()
        if report.broken:
            raise AttackersFailed("; ".join(report.broken))
        return report


def _address() -> str:
    """One of theirs: they come from a few, and from none that an honest tenant has."""
    return f"127.0.1.{random.randint(1, _ADDRESSES)}"


def _from_afar() -> httpx.HTTPTransport:
    return httpx.HTTPTransport(local_address=_address())


def _attack(world: World, orders: int, seconds: float, orders_of: Connection) -> None:
    os.nice(_NICE)
    world.anvil._wire = Wire(world.anvil.url)  # the old one is shared
    attackers = Attackers(world, orders, seconds)
    orders_of.send("ready")
    orders_of.recv()
    attackers.start()
    while not orders_of.poll(1.0):
        if attackers.broken:
            orders_of.send(attackers.broken)
            return
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
        self._lock = threading.Lock()
        self._done: dict[str, Counter[str]] = {}
        self.broken: list[str] = []
        self.junk = [self._funded() for _ in range(6)]
        self.paying: LocalAccount = self._funded()
        self.tokens_paid = 0
        self._numbers = itertools.count(1)

    def report(self) -> Report:
        """What they have done so far."""
        accounts = [one.address.lower() for one in (*self.junk, self.paying)]
        done = {attack: dict(counts) for attack, counts in self._done.items()}
        return Report(accounts, done, self.tokens_paid, self.broken)

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
            self._raw_uploads,
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
        """Attackers do not give up when they are refused. A fault of their own ends the siege."""
        try:
            while not self._stopped.is_set():
                attack()
                self._stopped.wait(0.5)
        except BaseException:  # noqa: BLE001 - whatever it is, there is no siege without it
            what = f"{attack.__name__.strip('_')}: {traceback.format_exc()}"
            if what not in self.broken:
                self.broken.append(what)

    def _count(self, attack: str, how: str, number: int = 1) -> None:
        with self._lock:
            self._done.setdefault(attack, Counter())[how] += number

    def _number_of(self, attack: str) -> int:
        with self._lock:
            return sum(self._done.get(attack, Counter()).values())

    @contextlib.contextmanager
    def _try(self, attack: str) -> Iterator[None]:
        """One attack, counted. That it is refused, or meets no agent, is not a fault."""
        try:
            yield
        except LocalError as error:
            self._count(attack, error.code.value)
        except (httpx.HTTPError, OSError):
            self._count(attack, "broken off")
        except (AnvilError, AssertionError):  # the chain is as busy as all else
            self._count(attack, "not mined")
        else:
            self._count(attack, "taken")

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
            "nonce": next(self._numbers),
        }
        return Order(**{**values, **changes})

    def _junk_orders(self) -> None:
        """Orders that nobody wants, spread over the siege."""
        world, begin, name = self._world, time.monotonic(), "junk orders"
        with httpx.Client(timeout=30.0, trust_env=False) as client:
            while (made := self._number_of(name)) < self._orders and not self._stopped.is_set():
                due = self._orders * min(1.0, (time.monotonic() - begin) / (0.7 * self._seconds))
                if made >= due:
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
                try:
                    answers = client.post(world.anvil.url, json=batch).json()
                except httpx.HTTPError:
                    self._count(name, "not mined", len(batch))
                    continue
                taken = sum("result" in answer for answer in answers)
                self._count(name, "taken", taken)
                if taken < len(batch):
                    self._count(name, "not mined", len(batch) - taken)
        self._stopped.wait()

    def _hostile_jobs(self) -> None:
        """Jobs that are paid for, and fill disk, memory or the table of files."""
        world = self._world
        folder = world.directory / "hostile" / str(next(self._numbers))
        folder.mkdir(parents=True)
        (folder / "job.py").write_text(random.choice([FILLS, CROWDS]))
        spec = world.spec(folder, timeout_seconds=20)
        order = self._order(
            spec.digest(), start_price=USD, max_price=USD, collateral=TPF, duration=_DAY
        )
        with self._try("hostile jobs"), self._client(self.paying) as client:
            world.jobs.send(self.paying, "post", order.abi_tuple())
            self.tokens_paid += USD
            client.upload(spec, folder, wait=30)
        self._stopped.wait(15)

    def _clock_steps(self) -> None:
        """The chain's clock jumps, as after an outage. Beyond its margin an agent takes nothing."""
        if not self._stopped.wait(self._seconds / 5) and self._number_of("clock steps") < _STEPS:
            # By a difference: nobody looks at the clock first, so nobody can come in between.
            with self._try("clock steps"):
                self._world.anvil.rpc("evm_increaseTime", hex(_STEP))

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
                    "outputs": ["out"],
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
        spec, world = self._junk_spec(_LARGE), self._world
        with self._try("large specifications"), self._client(account) as client:
            world.jobs.send(account, "post", self._order(spec.digest()).abi_tuple())
            client.upload_spec(spec)

    def _quotes(self) -> None:
        """An account without money asks for quotes as fast as it can."""
        account: LocalAccount = Account.create()
        spec = self._junk_spec(0)
        with self._client(account) as client:
            with self._try("sign-ins"):
                client.login()
            token = client._http._token  # quotes are asked for faster than a client does
            if token is None:
                return
            with self._try("small specifications"):
                client.upload_spec(spec)
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(timeout=10.0, transport=_from_afar()) as http:
            while not self._stopped.is_set():
                known = True
                with self._try("quotes"):
                    answer = http.post(
                        f"{self._url}/v1/quotes",
                        json={"spec": spec.digest().hex()},
                        headers=headers,
                    )
                    known = answer.status_code != _UNAUTHORIZED
                    if answer.status_code >= 300:
                        refusal = WireError.parse(answer.content)
                        code = Code.ANSWER_INVALID if refusal is None else refusal.code
                        raise LocalError("refused", code)
                if not known:
                    return  # once more, as somebody else

    def _uploads(self) -> None:
        """Large files for an order that pays nothing."""
        account = random.choice(self.junk)
        folder = self._world.directory / "flood" / os.urandom(8).hex()
        folder.mkdir(parents=True)
        (folder / "big").write_bytes(os.urandom(8 << 20))
        spec = self._world.spec(folder)
        with self._try("uploads"), self._client(account) as client:
            self._world.jobs.send(account, "post", self._order(spec.digest()).abi_tuple())
            client.upload(spec, folder, wait=5)
        shutil.rmtree(folder)

    def _raw_uploads(self) -> None:
        """Bodies of files that no order names, sent to their end whatever the agent answers."""
        account: LocalAccount = Account.create()
        with self._client(account) as client:
            with self._try("sign-ins"):
                client.login()
            for _ in range(50):
                if client._http._token is None or self._stopped.is_set():
                    return
                with self._try("unwanted files"):
                    client._http.checked(
                        client._http.request(
                            "PUT",
                            f"/v1/inputs/{os.urandom(32).hex()}",
                            content=os.urandom(1 << 20),
                        )
                    )
                self._stopped.wait(0.2)

    def _idle_sockets(self) -> None:
        """Connections that say nothing."""
        held: list[socket.socket] = []
        try:
            while not self._stopped.wait(0.05):
                with self._try("idle sockets"):
                    held.append(
                        socket.create_connection(
                            ("127.0.0.1", self._world.api_port), 1, (_address(), 0)
                        )
                    )
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
            with self._try("supervisors killed"):
                os.kill(random.choice(found), signal.SIGKILL)
