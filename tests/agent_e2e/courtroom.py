# SPDX-License-Identifier: Apache-2.0
"""A market with a court: one provider, one tenant, and jurors with agents of their own.

The chain stands still until `going`, so a test can choose the jury: the named block is mined again
until it draws one that fits. What a job gives depends on the runtime: a liar's gives another byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from teraproof.client.jobs import AgentClient
from teraproof.contracts.disputes import DisputesContract
from teraproof.contracts.jobs import JobsContract
from teraproof.courts import docket
from teraproof.courts.docket import Dispute, Phase
from teraproof.deals import attestation_of
from teraproof.errors import LocalError
from teraproof.protocol.capability import Capability
from teraproof.protocol.dispute import Case, Statement
from teraproof.protocol.terms import Status
from teraproof.rpc.client import RpcPool
from tests.agent_e2e.chain import TPF, USD, Deployment, deployment, mining, until
from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.world import Job, World
from tests.support.anvil import Anvil, AnvilError

COURT = {
    # The hash of a block: what anvil says is random follows from the number alone.
    "randomness_source": 1,
    "period": 600,
    "draw_time": 300,
    "commit_time": 600,
    "reveal_time": 300,
    "redraw_time": 300,
    "appeal_time": 600,
    "close_time": 1_200,
    "max_duration": 3_600,
}
CAPABILITY = Capability("batch", "plain", "cpu")
KEY = CAPABILITY.number().to_bytes(32, "big")
SEATS, JURORS = 5, 4
SEAT = 10 * TPF  # of the plan for a local chain
DURATION = 600
HONEST, LIE = "42", "43"


def runtime(place: Path, answer: str) -> Path:
    """A runtime in which every job gives this answer."""
    program = place / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nmkdir out && printf {answer} >out/answer\n")
    program.chmod(0o755)
    return place


@dataclass
class Courtroom:
    """See the module."""

    directory: Path
    deployment: Deployment
    nursery: Nursery
    provider: World = field(init=False)
    jurors: list[World] = field(default_factory=list)
    #: A vote's pay and the fines follow from the price.
    price: int = 2 * USD

    def __post_init__(self) -> None:
        self.anvil = self.deployment.anvil
        self.pool = RpcPool([self.anvil.url], self.anvil.chain_id)
        self.disputes = DisputesContract(self.pool, self.deployment.disputes.address)
        self.jobs = JobsContract(self.pool, self.deployment.jobs.address)
        self.honest = runtime(self.directory / "honest", HONEST)
        self.lying = runtime(self.directory / "lying", LIE)

    # ------------------------------------------------------------------ people

    def world(self, name: str, place: Path, **settings: str) -> World:
        """A provider with its agent's settings."""
        given = {
            "TERAPROOF_RUNNER__RUNTIMES": json.dumps({"plain": str(place)}),
            "TERAPROOF_JOBS__ACCEPT_JUDGED": "anyone",
            **{f"TERAPROOF_DISPUTES__{key.upper()}": value for key, value in settings.items()},
        }
        return World(self.directory / name, self.deployment, given).set_up()

    def set_up(self) -> Courtroom:
        """Jurors with seats that count."""
        self.jurors = [self.world(f"juror{n}", self.honest) for n in range(JURORS)]
        for juror in self.jurors:
            self.deployment.disputes.send(juror.operator, "enlist", KEY, SEATS)
        self.jump(2 * COURT["period"])
        return self

    def accuse(self, place: Path, **settings: str) -> Job:
        """Let a new provider deliver a judged job; it is attested."""
        self.provider = self.world(
            f"provider{len(list(self.directory.iterdir()))}", place, **settings
        )
        self.provider.fork_agent(self.nursery)
        inputs = self.provider.job_directory("job", "print(1)\n")
        spec = self.provider.spec(inputs, runtime="plain")
        order = {"duration": DURATION, "auction": 0, "judged": CAPABILITY.number()}
        order |= {"start_price": self.price, "max_price": self.price}
        with self.going():
            job = self.provider.post(spec, inputs, **order)
            self.provider.until(job.try_upload, "upload", 60)
            job.wait(Status.ATTESTED, seconds=90)
        return job

    def dispute(self, job: Job, evidence: bytes = b"") -> Case:
        """The tenant takes the result to the court, with something to say."""
        told = job.attested()
        said = attestation_of(job.terms, told)
        statement = Statement(said.spec, said.result, said.receipt, said.started, said.finished)
        self.deployment.jobs.send(
            self.provider.tenant,
            "dispute",
            job.terms.abi_tuple(),
            job.record().abi_tuple(),
            statement.abi_tuple(),
            hashlib.sha256(evidence).digest() if evidence else bytes(32),
        )
        case = docket.case_of(self.disputes, job.id, 0)
        assert case is not None
        return case

    def hand_over(self, case: Case, juror: World, evidence: bytes) -> None:
        """The tenant gives what it has to say to a juror's agent."""
        url = f"http://127.0.0.1:{juror.api_port}"
        with AgentClient(url, self.provider.tenant, self.anvil.chain_id) as client:
            juror.until(lambda: self._takes(client, case, evidence), "evidence to be taken", 30)

    @staticmethod
    def _takes(client: AgentClient, case: Case, evidence: bytes) -> bool:
        try:
            client.give_evidence(case.job, evidence)
        except LocalError:
            return False
        return True

    def conclude(self, job: Job, case: Case) -> None:
        """What anyone may do at the end."""
        self.deployment.jobs.send(
            self.deployment.stranger,
            "conclude",
            job.terms.abi_tuple(),
            job.record().abi_tuple(),
            case.abi_tuple(),
        )

    def close(self) -> None:
        """End all agents."""
        for world in [*self.jurors, self.provider]:
            world.close()
        self.pool.close()

    # ------------------------------------------------------------------ juries

    def draw(self, case: Case, fits: Callable[[Sequence[int]], bool] = bool) -> list[World]:
        """Draw a jury that fits, by the votes of its places; its jurors in their order."""
        target = self.look(case).current.target
        while self.anvil.number() < target - 1:
            self.anvil.step(1)
        for number in range(1, 300):
            before = self.anvil.snapshot()
            # Another producer makes another block.
            self.anvil.rpc("anvil_setCoinbase", f"0x{number:040x}")
            self.anvil.step(1)
            header = self.pool.header(target).data
            self.deployment.disputes.send(
                self.deployment.stranger, "draw", case.abi_tuple(), header
            )
            places = self.look(case).current.places
            if fits([place.votes for place in places]):
                return [self.juror(place.juror) for place in places]
            self.anvil.rpc("evm_revert", before)
            self.pool.close()
            self.pool = RpcPool([self.anvil.url], self.anvil.chain_id)
            self.disputes = DisputesContract(self.pool, self.disputes.address)
        raise AssertionError("no such jury")

    def juror(self, owner: str) -> World:
        """The juror with this owner."""
        return next(one for one in self.jurors if one.owner.address == owner)

    def seat(self, jurors: Sequence[World]) -> None:
        """Start the agents of jurors."""
        for juror in jurors:
            juror.fork_agent(self.nursery)

    # ------------------------------------------------------------------ time

    @contextlib.contextmanager
    def going(self, until: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Let the chain's time pass, at most up to the block that makes `until` true."""
        try:
            with mining(self.anvil, until=until):
                yield
        finally:
            self.anvil.set_automine(True)

    def jump(self, seconds: int) -> None:
        """Let time pass at once."""
        self.anvil.step(seconds)

    def pass_over(self, case: Case) -> None:
        """To the end of the phase."""
        left = self.look(case).until - self.anvil.timestamp()
        self.jump(max(1, left + 1))

    def look(self, case: Case) -> Dispute:
        """The dispute now."""
        found = docket.read(self.disputes, case, "latest")
        assert found is not None
        return found

    def wait(self, case: Case, *phases: Phase, seconds: float = 60) -> Dispute:
        """Wait for a phase."""

        def there() -> Dispute | None:
            with contextlib.suppress(AnvilError):
                found = docket.read(self.disputes, case, "latest")
                if found is not None and found.phase in phases:
                    return found
            return None

        try:
            return until(there, " or ".join(phase.name for phase in phases), seconds)  # type: ignore[no-any-return]
        except AssertionError as error:
            logs = "\n".join(f"{one.directory.name}: {one.log()}" for one in self.everyone())
            raise AssertionError(f"{error}; {self.look(case)}\n{logs}") from None

    def everyone(self) -> list[World]:
        """The provider and the jurors."""
        return [self.provider, *self.jurors]

    # ------------------------------------------------------------------ money

    def locked(self, juror: World) -> int:
        """What is locked behind a juror's seats, TPF wei."""
        read = self.deployment.staking.read
        return int(read("lock_of", self.disputes.address, juror.owner.address, KEY)[0])

    def credit(self, account: str) -> int:
        """What an account can withdraw of Jobs, payment token units."""
        return int(self.deployment.jobs.read("credit_of", account))


@contextlib.contextmanager
def courtroom(directory: Path, nursery: Nursery) -> Iterator[Courtroom]:
    """A courtroom on a chain of its own."""
    anvil = Anvil(arguments=["--order", "fifo"])
    with deployment(anvil, court=COURT) as contracts:
        room = Courtroom(directory, contracts, nursery)
        try:
            yield room.set_up()
        finally:
            room.close()
