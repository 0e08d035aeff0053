# SPDX-License-Identifier: Apache-2.0
"""One provider whose agent rents out containers, and one tenant who rents many of them."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from provider_agent.runners import linux
from provider_agent.runners.docker.engine import Engine
from teraproof.client.leases import LeaseClient
from teraproof.contracts.leases import HEARTBEAT, Closed, LeasesContract
from teraproof.errors import RemoteError
from teraproof.protocol import lease_terms, messages
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseOrder, LeaseState, LeaseTerms
from teraproof.protocol.lease_wire import QuoteRequest, SignedLeaseQuote
from teraproof.protocol.leasespec import LeaseSpec, Port, Resources, Service, checked
from teraproof.rpc.client import RpcPool
from tests.agent.faulty_rpc import FaultyRpc
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.world import World
from tests.support.anvil import Anvil, AnvilError
from tools.engine import Daemon

MIB = 1 << 20
HOUR = 3_600
TERM, PAID_FOR = 6 * HOUR, 5 * HOUR  # seconds: longer than any run
MEMORY, DISK = 16 * MIB, 8 * MIB  # of one container
FIRST_PORT = 30_000
QUOTE_SECONDS = 120.0  # in which an agent that has just started must give a quote
NO_ROOM = (Code.CORES_TAKEN, Code.MEMORY_TAKEN, Code.DISK_TAKEN, Code.SLOTS_TAKEN)
"""Why an agent gives no quote that has no room."""


@dataclass(frozen=True)
class Rental:
    """A lease of the tenant. `begun` is before its transaction was sent, on the monotonic clock."""

    terms: LeaseTerms
    begun: float

    @property
    def lease(self) -> bytes:
        """Its id."""
        return self.terms.lease_id()


@dataclass
class RentalWorld(World):
    """See the module. `engine` runs; `image` is a small web server's."""

    engine: Daemon | None = None
    image: str = ""
    most: int = 100
    """Leases at a time."""
    poll_seconds: float = 2.0
    """As an agent has it by itself."""

    def set_up(self) -> RentalWorld:
        """Register and fund everybody; the agent hears of the engine and of its prices."""
        super().set_up()
        assert self.engine is not None
        payment, leases = self.payment, self.deployment.leases
        payment.send(self.tenant, "approve", leases.address, 2**256 - 1)
        self.settings = {
            "TERAPROOF_CHAIN__LEASES": leases.address,
            "TERAPROOF_RUNNER__DISK_RESERVE_MB": "0",
            "TERAPROOF_RUNNER__MEMORY_RESERVE_MB": "0",
            "TERAPROOF_AGENT__SLOTS": "1",
            **{
                f"TERAPROOF_LEASES__{name}": str(value)
                for name, value in (
                    ("CORE_PRICE", "0.72"),
                    ("MEMORY_PRICE", "0.36"),
                    ("DOCKER_SOCKET", self.engine.socket),
                    ("MAX_LEASES", self.most),
                    ("CPUS", 16),
                    ("MEMORY_MB", 2 * self.most * MEMORY // MIB),
                    ("DISK_MB", 32 * self.most + 512),
                    ("IMAGE_MB", 256),
                    ("NOTICE_SECONDS", 0),
                    ("MAX_SECONDS", TERM),
                    ("DATA_HOST", "127.0.0.1"),
                    ("DATA_PORT", 0),
                    ("OUTER_PORTS", f"[{FIRST_PORT}, {FIRST_PORT + 2 * self.most}]"),
                )
            },
            **self.settings,
        }
        return self

    # ------------------------------------------------------------------ the tenant

    def service(self, word: str = "web") -> LeaseSpec:
        """A web server behind a public port; its command line names `word` and this world."""
        service = Service(
            name="web",
            image=self.image,
            resources=Resources(cpu_millis=10, memory_bytes=MEMORY, shm_bytes=MIB, root_bytes=DISK),
            command=("httpd", "-f", "-p", "80", "-h", "/www", "-r", self.name_of(word)),
            ports=(Port(80, 80, "tcp", True),),
        )
        return checked(LeaseSpec(name="web", services=(service,), outbound=False))

    def name_of(self, word: str) -> str:
        """What the command line of a service names: worlds of one machine see each other's."""
        return f"{self.operator.address}-{word}"

    @contextlib.contextmanager
    def tenancy(self) -> Iterator[LeaseClient]:
        """The tenant's connection to the agent."""
        url = f"http://127.0.0.1:{self.api_port}"
        with LeaseClient(url, self.tenant, self.anvil.chain_id) as client:
            yield client

    def hire(self, client: LeaseClient, spec: LeaseSpec, patience: float = QUOTE_SECONDS) -> Rental:
        """Take the agent's quote. RemoteError when it gives none in `patience` seconds."""
        leases = self.deployment.leases
        signed = self._quote(client, spec, patience)
        deposit, begin = signed.quote.rate * PAID_FOR, time.monotonic()
        receipt = leases.send(
            self.tenant, "hire", signed.quote.abi_tuple(), signed.signature, deposit, False
        )
        order = signed.quote.order(deposit)
        return Rental(self._terms(receipt["blockNumber"], order), begin)

    def _quote(self, client: LeaseClient, spec: LeaseSpec, patience: float) -> SignedLeaseQuote:
        """The agent's quote, asked for again while the agent gets ready for it."""
        domain = messages.Domain(self.anvil.chain_id, self.deployment.leases.address)
        end = time.monotonic() + patience
        while True:
            try:
                client.send_spec(spec)
                return client.lease_quote(spec, QuoteRequest(spec.digest(), TERM), domain)
            except RemoteError as error:
                late = time.monotonic() > end
                if late or error.code in NO_ROOM or not error.retryable:
                    raise
            time.sleep(1.0)

    def _terms(self, block: str, order: LeaseOrder) -> LeaseTerms:
        leases = self.deployment.leases
        return LeaseTerms(
            requester=self.tenant.address,
            posted_at=int(self.anvil.block(int(block, 16))["timestamp"], 16),
            grace=int(leases.read("challenge_window")),
            fee_bps=int(leases.read("fee_bps")),
            paused=int(leases.read("paused_seconds")),
            order=order,
        )

    def by_tenant(self, rental: Rental, function: str) -> None:
        """A call of the tenant's about a lease."""
        self.deployment.leases.send(self.tenant, function, rental.terms.abi_tuple())

    def outer_port(self, client: LeaseClient, rental: Rental) -> int | None:
        """Where the public reaches the service of a lease; None until its agent says so."""
        for each in client.report(rental.lease).endpoints:
            if each.public and each.url.startswith("tls://"):
                return urlsplit(each.url).port
        return None

    # ------------------------------------------------------------------ what the chain says

    def state(self, rental: Rental) -> LeaseState:
        """The state word of a lease."""
        return lease_terms.lease_state_of(int(self.deployment.leases.read("state", rental.lease)))

    def due(self, rental: Rental) -> int:
        """Seconds that rent is due for, those paid included."""
        return int(self.deployment.leases.read("account", rental.terms.abi_tuple())[0])

    def closings(self) -> Mapping[bytes, Closed]:
        """How leases were closed."""
        pool = RpcPool([self.anvil.url], self.anvil.chain_id)
        contract = LeasesContract(pool, self.deployment.leases.address)
        entries = pool.logs([contract.address], 0, self.anvil.number())
        pool.close()
        events = [contract.decode(entry) for entry in entries]
        return {one.lease: one for one in events if isinstance(one, Closed)}

    def sent(self, first: int, last: int) -> Counter[str]:
        """The agent's transactions in blocks `first` to `last`: heartbeats, and others."""
        operator, beat = self.operator.address.lower(), "0x" + HEARTBEAT.selector.hex()
        found: Counter[str] = Counter()
        for number in range(first, last + 1):
            for made in self.anvil.block(number, full=True)["transactions"]:
                if made["from"].lower() == operator:
                    found["heartbeat" if made["input"][:10] == beat else "other"] += 1
        return found

    def would_pass(self, rental: Rental, function: str) -> bool:
        """Whether a stranger's call about a lease would go through now."""
        leases = self.deployment.leases
        call = leases.call(self.stranger, function, rental.terms.abi_tuple())
        request = {"from": call.sender, "to": call.to, "data": "0x" + call.data.hex()}
        try:
            self.anvil.rpc("eth_call", request, "latest")
        except AnvilError:
            return False
        return True

    # ------------------------------------------------------------------ what the machine says

    def usage(self) -> tuple[float, float]:
        """CPU seconds of the agent and of the programs that it has run; its own resident MiB."""
        assert self.process is not None
        place = Path("/proc") / str(self.process.pid)
        resident = (place / "status").read_text().split("VmRSS:")[1].split()[0]
        times = (place / "stat").read_text().rsplit(")", 1)[1].split()
        ticks = sum(int(times[one]) for one in (11, 12, 13, 14))
        return ticks / os.sysconf("SC_CLK_TCK"), int(resident) / 1024

    def containers(self) -> list[str]:
        """The names of all containers of the engine."""
        assert self.engine is not None
        found = Engine(self.engine.socket).get("/containers/json", all=True)
        return [str(one["Names"][0]) for one in found]

    def mounts(self) -> list[str]:
        """What is mounted in the agent's directory."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        places = (line.split()[4] for line in lines)
        return [place for place in places if Path(place).is_relative_to(self.directory)]

    def supervisors(self) -> int:
        """Processes of the engine that each look after a container."""
        assert self.engine is not None
        left = 0
        for number in self.engine.left():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{number}/cmdline").read_bytes()
                left += b"containerd-shim" in line.split(b"\0")[0]
        return left

    def left(self) -> dict[str, int]:
        """What is there of leases on this machine, by sort; empty when there is nothing."""
        found = {
            "containers": len(self.containers()),
            "mounts": len(self.mounts()),
            "supervisors": self.supervisors(),
        }
        return {name: number for name, number in found.items() if number}

    def wait_for_nothing(self, seconds: float) -> dict[str, int]:
        """What is left of leases after that time at most; empty as soon as there is nothing."""
        end = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < end:
            time.sleep(1.0)
        return left


@contextlib.contextmanager
def rental_market(
    directory: Path,
    engine: Daemon,
    image: str,
    *,
    nodes: int = 1,
    renting: Mapping[str, int] | None = None,
    settings: Mapping[str, str] | None = None,
    most: int = 100,
) -> Iterator[tuple[RentalWorld, list[FaultyRpc]]]:
    """A world with a block a second, and the nodes through which its agent reads the chain."""
    with contextlib.ExitStack() as stack:
        anvil = stack.enter_context(
            Anvil(arguments=["--order", "fifo", "--gas-limit", "300000000"])
        )
        deployment = Deployment(anvil, renting=renting or {}).set_up()
        world = RentalWorld(
            directory, deployment, settings or {}, engine=engine, image=image, most=most
        )
        stack.callback(_unmount, world)
        stack.callback(world.close)
        world.set_up()
        proxies = [stack.enter_context(FaultyRpc(anvil.url)) for _ in range(nodes)]
        world.rpc_urls = [one.url for one in proxies]
        anvil.set_automine(False)
        anvil.set_block_time(1)
        yield world, proxies


def _unmount(world: RentalWorld) -> None:
    """Of a run that broke off: its directory is to be deleted."""
    for place in reversed(world.mounts()):
        with contextlib.suppress(OSError):
            linux.unmount(Path(place))
