# SPDX-License-Identifier: Apache-2.0
"""A provider of leases with its agent as a process, and one tenant whose lease has a whole life:
taken, ready, paid, down, up again, given notice of, over.

Its containers belong to nobody, so they outlive the agent. Each holds a lock of its own while it
runs: a second one of the same place would find it taken, and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from eth_account import Account

from provider_agent.modules.leases.wishes import Wish, wish
from teraproof.client.leases import LeaseClient
from teraproof.errors import LocalError
from teraproof.protocol import lease_terms
from teraproof.protocol.lease_terms import LeaseOrder, LeaseStatus, LeaseTerms
from teraproof.protocol.leasespec import LeaseSpec
from tests.agent_e2e.chain import DAY, TPF
from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.world import World

RATE = 10_000
NOTICE = 60  # seconds
DEATH = 60.0  # seconds that an agent may live before it passes a new point or all is done
EVERY = 100  # seconds between two collections of rent
_LIFE = """\
exec 9>>"$LOCK"
flock -n 9 || echo twice >>"$LOCK.twice"
exec sleep 1000000
"""


def passed(diary: Path) -> set[str]:
    """The points that an agent has died at."""
    return set(diary.read_text().split()) if diary.exists() else set()


class Yard(Protocol):
    """The containers, seen from outside the agent."""

    def end(self, lease: str) -> None:
        """Stop those of a lease; nothing starts them again by itself."""

    def begin(self, lease: str) -> None:
        """Start them again."""

    def left(self) -> list[str]:
        """What is left of any lease."""


@dataclass
class LeaseWorld(World):
    """See the module."""

    image: str = "registry.test/web:1"
    more: str = ""
    """Other lines of the settings of leases."""
    terms: LeaseTerms = field(init=False)
    _sent: bool = field(init=False, default=False)

    @property
    def data(self) -> Path:
        """The agent's directory."""
        return self.directory / "agent" / "data"

    def set_up(self) -> LeaseWorld:
        """Also let Leases take the tenant's money."""
        super().set_up()
        leases = self.deployment.leases
        self.deployment.transact(
            self.payment.call(self.tenant, "approve", leases.address, 2**256 - 1)
        )
        return self

    def configure(self) -> Path:
        """Rent out what is idle."""
        config = super().configure()
        text = config.read_text().replace(
            "[operator]",
            f'leases = "{self.deployment.leases.address}"\ncoin_price = "0"\n\n[operator]',
            1,
        )
        config.write_text(
            f"""{text}
[leases]
core_price = "0.01"
cpus = 2
down_seconds = 0
notice_seconds = {NOTICE}
min_seconds = 60
image_mb = 1024
data_host = "127.0.0.1"
data_port = 0
settle_hours = {EVERY / 3_600}
{self.more}
"""
        )
        return config

    # ------------------------------------------------------------------ the tenant

    def open(self, one: LeaseSpec) -> None:
        """An order that the first agent takes."""
        self.spec_of_lease, self._sent = one, False
        order = LeaseOrder(
            spec=one.digest(),
            start_rate=RATE,
            max_rate=RATE,
            deposit=RATE * 15 * DAY,
            collateral=TPF,
            ready_within=5 * DAY,
            term=20 * DAY,
            notice=NOTICE,
            auction=10 * DAY,
            min_stake=0,
            min_score=0,
            allow_root=bytes(32),
            nonce=int.from_bytes(Account.create().key[:8], "big"),
        )
        leases = self.deployment.leases
        receipt = leases.send(self.tenant, "open", order.abi_tuple(), False)
        self.terms = LeaseTerms(
            requester=self.tenant.address,
            posted_at=int(self.anvil.block(receipt["blockNumber"])["timestamp"], 16),
            grace=int(leases.read("challenge_window")),
            fee_bps=int(leases.read("fee_bps")),
            paused=int(leases.read("paused_seconds")),
            order=order,
        )
        assert self.state().status is LeaseStatus.OPEN

    def try_send(self) -> bool:
        """Send the specification, once; False while the agent is not there."""
        if not self._sent:
            url = f"http://127.0.0.1:{self.api_port}"
            try:
                with LeaseClient(url, self.tenant, self.anvil.chain_id) as client:
                    client.send_spec(self.spec_of_lease)
                self._sent = True
            except LocalError:
                return False
        return True

    # ------------------------------------------------------------------ looking

    @property
    def name(self) -> str:
        """What the runner calls the lease."""
        return self.terms.lease_id().hex()

    def state(self) -> lease_terms.LeaseState:
        """What the chain has of the lease."""
        word = self.deployment.leases.read("state", self.terms.lease_id())
        return lease_terms.lease_state_of(int(word))

    def marks(self) -> lease_terms.LeaseMarks:
        """What else the chain has of it."""
        word = self.deployment.leases.read("marks", self.terms.lease_id())
        return lease_terms.lease_marks_of(int(word))

    def wants_to_leave(self) -> None:
        """The owner says so to the agent."""
        self.data.mkdir(parents=True, exist_ok=True)
        wish(self.data, self.terms.lease_id(), Wish.NOTICE)

    # ------------------------------------------------------------------ a whole life

    def live(self, yard: Yard, passed: Callable[[], set[str]], points: set[str]) -> None:
        """Do what a tenant, an owner and bad luck do, until all `points` of a part are passed."""

        def missing(*actions: str) -> bool:
            now = passed()
            return any(p not in now for p in points if p.partition(".")[0] in actions)

        if not self.try_send() or self.state().status is not LeaseStatus.ACTIVE:
            return
        if missing("heartbeat", "settle"):
            return
        suspended = bool(self.marks().suspended_at)
        if suspended:
            yard.begin(self.name)
        elif missing("suspend", "resume"):
            yard.end(self.name)
        elif not self.marks().leaves_at:
            self.wants_to_leave()

    def live_and_die(
        self, nursery: Nursery, yard: Yard, diary: Path, points: set[str], **orders: str
    ) -> None:
        """A whole life, whose agents die at each of the `points` that no agent has died at."""
        lives = 0
        while not self.over():
            assert lives < 2 * len(points), self.log()
            self.fork_agent(nursery, die_at="each", diary=str(diary), **orders)
            process = self.process
            assert process is not None

            def ended() -> bool:
                self.live(yard, lambda: passed(diary), points)
                return process.poll() is not None or self.over()  # noqa: B023 - used now

            self.until(ended, "death", DEATH)
            assert process.poll() in (-9, None), self.log()
            self.kill_agent()
            lives += 1

    def rest(self, nursery: Nursery, yard: Yard, **orders: str) -> None:
        """An agent that is not killed finds nothing more to do, and ends."""
        self.fork_agent(nursery, **orders)
        self.until(self._answers, "the agent's API", 120)
        self.until(lambda: self.over() and not yard.left(), "rest", DEATH)
        assert self.stop_agent() == 0, self.log()

    def over(self) -> bool:
        """Whether the lease has ended and nothing is on its way."""
        if not self._sent or self.state().status is not LeaseStatus.NONE:
            return False
        waiting = "SELECT 1 FROM intents WHERE state NOT IN ('final', 'reverted', 'abandoned')"
        ended = f"SELECT 1 FROM leases WHERE lease_id = x'{self.name}' AND ended_at IS NOT NULL"
        return bool(self.rows(ended)) and not self.rows(waiting)

    def check_sent_once(self) -> Counter[str]:
        """Each call was sent once and none failed; how many there were of each."""
        rows = self.rows("SELECT object_id, action, state FROM intents")
        assert {state for _, _, state in rows} <= {"final"}, rows
        known = Counter((str(about), str(action)) for about, action, _ in rows)
        assert set(known.values()) == {1}, known
        by_function = Counter(action.partition("-")[0] for _, action in known)
        sent = self.deployment.sent_by(self.operator.address)
        assert sent == {(name, True): n for name, n in by_function.items()}, self.log()
        assert self.anvil.nonce(self.operator.address) == sum(sent.values())
        return by_function

    def check_paid(self) -> None:
        """The provider has earned, and its collateral is free."""
        credit = int(self.deployment.leases.read("credit_of", self.owner.address))
        assert credit > 0
        assert int(self.staking.read("pool", self.owner.address)[1]) == 0

    def life(self, lock: Path) -> dict[str, Any]:
        """What a service of the lease runs: it holds a lock, or writes down that another does."""
        return {
            "command": ("sh", "-c", _LIFE),
            "image": self.image,
            "env": {"LOCK": str(lock)},
        }
