# SPDX-License-Identifier: Apache-2.0
"""The disputes duty over a court, a market and a bench that are plain data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from provider_agent.core.attempts import Attempts
from provider_agent.core.module import Cycle
from provider_agent.core.panels import Panels
from provider_agent.core.pay import Pay
from provider_agent.core.standing import Provider
from provider_agent.modules.disputes.appeals import Appeals
from provider_agent.modules.disputes.bench import Finding
from provider_agent.modules.disputes.duty import Contracts, DisputesDuty
from provider_agent.modules.disputes.hearing import Hearing
from provider_agent.modules.disputes.repository import DisputesRepository
from provider_agent.modules.disputes.seats import Seats
from provider_agent.modules.disputes.votes import VoteBook
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.sender import Sender
from teraproof.contracts.base import Event
from teraproof.contracts.disputes import Committed, Opened
from teraproof.contracts.jobs import Attested, JobsContract, Posted
from teraproof.courts.docket import Phase
from teraproof.courts.votes import Ruling
from teraproof.protocol.dispute import Case
from teraproof.protocol.messages import Domain
from teraproof.protocol.terms import ZERO_ADDRESS, Order, Status, Terms
from teraproof.rpc.types import BlockRef, Log
from tests.agent.disputes.court import JURORS, PLACE, PlainCourt, Seat, Sitting
from tests.agent.disputes.rig import spec_of
from tests.agent.duty_parts import JOBS, OPERATOR, OTHER, OWNER, TENANT, WritingSender
from tests.agent.stores import fresh_store

CAPABILITY = b"\xee" * 32
NOW = 1_000_000
LOG = Log(PLACE, (), b"", 1, bytes(32), bytes(32), 0)
TERMS = Terms(
    TENANT,
    NOW - 900,
    10**6,
    0,
    0,
    Order(
        spec_of().digest(), 1, 1, 0, 600, 0, 0, 0, bytes(32), 1, int.from_bytes(CAPABILITY, "big")
    ),
)
JOB = TERMS.job_id()
MANIFEST = b"ours"


class PlainBench:
    """Finds what the test says."""

    def __init__(self) -> None:
        self.finding: Finding | None = None
        self.reason = "waiting"
        self.asked: list[Any] = []
        self.manifest: bytes | None = None
        self.released: list[bytes] = []

    def judge(self, task: Any, now: int) -> Finding | None:
        self.asked.append(task)
        return self.finding

    def own(self, job: bytes) -> bytes | None:
        return self.manifest

    def theirs(self, job: bytes) -> bytes | None:
        return None

    def why(self, job: bytes) -> str:
        return self.reason

    def release(self, job: bytes) -> None:
        self.released.append(job)

    def clear(self, job: bytes) -> None:
        pass

    def jobs(self) -> list[bytes]:
        return []


class PlainJobs(JobsContract):
    """Money, and the status of the job."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None), JOBS)
        self.credits, self.money, self.allowed = 0, 0, 0
        self.status_ = Status.DISPUTED
        self.told: list[Event] = []
        self.searches = 0

    def credit_of(self, account: str, block: Any) -> int:
        return self.credits

    def state(self, job: bytes, block: Any) -> int:
        return int(self.status_)

    def find(self, kind: type[Event], first: int, last: int | None = None, **_: Any) -> Any:
        self.searches += 1
        return [event for event in self.told if isinstance(event, kind)]


class Rig:
    """A duty for a provider, `who` it is: a juror unless it is the one that is disputed."""

    def __init__(self, folder: Path, who: str = OWNER, appeal_up_to: int = 1_000) -> None:
        self.folder, self.who = folder, who
        self.clock = 0.0
        self.store = fresh_store(folder / "agent.sqlite", clock=lambda: float(NOW))
        self.court, self.jobs, self.bench = PlainCourt(), PlainJobs(), PlainBench()
        self.court.members = [Seat(OWNER, 5), *(Seat(one.address, 5) for one in JURORS)]
        self.panels, self.most = Panels(), appeal_up_to
        self.hearing = Hearing(folder / "juror", lambda: self.seen)
        self.seen = NOW
        self.case = Case(
            *(JOB, OTHER if who == OWNER else who, TENANT, OTHER, ZERO_ADDRESS),
            *(CAPABILITY, b"\5" * 32, 10, 600),
        )
        self.restart()
        times = (1, 2, NOW - 500, NOW - 400, 0)
        told = Attested(LOG, JOB, self.case.provider, bytes(32), bytes(32), *times)
        self.duty.consume(
            [
                Posted(LOG, JOB, TENANT, TERMS),
                told,
                Opened(LOG, JOB, self.case.provider, TENANT, self.case, 50),
            ],
            [],
        )

    def restart(self) -> None:
        sender = cast(Sender, WritingSender(self.store))

        def attempts(name: str, address: str) -> Attempts:
            return Attempts(self.store, sender, name, address, clock=lambda: float(NOW))

        token = SimpleNamespace(
            address="0x" + "0e" * 20,
            balance_of=lambda *_: self.jobs.money,
            allowance=lambda *_: self.jobs.allowed,
            approve=lambda spender, amount: b"approve %d" % amount,
        )
        court = attempts("court", JOBS)
        staking = SimpleNamespace(operator_of=lambda owner, _: f"operator of {owner}")
        self.seats = seats = Seats(
            self.court, cast(Any, staking), attempts("disputes", PLACE), self.store, {}
        )
        seats.held[CAPABILITY] = 5 if self.who == OWNER else 0
        self.duty = DisputesDuty(
            store=DisputesRepository(self.store),
            contracts=Contracts(self.court, self.jobs, cast(Any, staking)),
            key=OperatorKey(OPERATOR),
            domain=Domain(1, PLACE),
            seats=seats,
            bench=cast(Any, self.bench),
            book=VoteBook(self.folder / "votes"),
            appeals=Appeals(
                self.jobs,
                cast(Any, token),
                OPERATOR.address,
                court,
                attempts("token", JOBS),
                self.most,
                Pay(1, "tUSD"),
            ),
            panels=self.panels,
            hearing=self.hearing,
            attempts=attempts("disputes", PLACE),
            court=court,
            start_block=0,
            block_seconds=lambda: 2.0,
            concludes=True,
            clock=lambda: self.clock,
        )

    def reopen(self, case: Case) -> None:
        """Let the chain tell of another case of the job."""
        self.case = case
        self.duty.consume([Opened(LOG, JOB, case.provider, case.requester, case, 50)], [])

    def stand(
        self, phase: Phase, until: int = 0, ruling: Ruling = Ruling.NONE, round: int = 0
    ) -> None:
        self.court.standing = (round, int(phase), until, int(ruling))
        self.duty.consume([Committed(LOG, JOB, TENANT, round)], [])

    def sit(self, *leaves: int, round: int = 0, **more: Any) -> Sitting:
        places = [(leaf, 1) for leaf in leaves]
        found = self.court.rounds[round] = Sitting(NOW - 10, places=places, **more)
        return found

    def cycle(self, now: int = NOW, number: int = 100) -> None:
        block = BlockRef(number, number.to_bytes(32, "big"), now)
        provider = Provider(self.who, True, 10**30, 10**30, 10**30, bytes(32))
        self.duty.reconcile(Cycle(block, block, provider))

    def intents(self) -> dict[str, bytes]:
        return {intent.key.action: intent.data for intent in self.store.intents_of(JOB.hex())}
