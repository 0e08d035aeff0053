# SPDX-License-Identifier: Apache-2.0
"""Reorgs of 1 to 10 blocks at each step of a job, with its transactions lost or taken in again.

The test mines every block itself, so a reorg of one block takes away the very step that it is
aimed at. A lost `post` means that the tenant posts again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from teraproof.contracts.jobs import JobsContract, Posted
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.terms import Status, Terms
from teraproof.rpc.client import RpcPool
from tests.agent_e2e.chain import DAY
from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.together import together
from tests.agent_e2e.world import Job, World, market
from tests.support import budget
from tests.support.anvil import Anvil

STEPS = ("post", "accept", "running", "attest", "finalize")
FATES = ("lost", "kept")


def cases() -> list[str]:
    """Each step and fate with one depth, and each depth with one of them; or all of them."""
    kinds = [(step, fate) for step in STEPS for fate in FATES]
    return [
        f"{name}-{fate}-{depth}"
        for n, (name, fate) in enumerate(kinds)
        for depth in range(1, 11)
        if budget.deep() or depth == (3 * n + 5) % 10 + 1
    ]


@dataclass
class Story:
    """A job on a chain whose blocks this test makes."""

    world: World
    job: Job = field(init=False)
    uploaded: bool = False

    def post(self, spec: JobSpec, directory: Path) -> None:
        """Post the job, in a block of its own."""
        self.world.anvil.set_automine(True)
        self.job = self.world.post(spec, directory, duration=20 * DAY, auction=10 * DAY)
        self.world.anvil.set_automine(False)

    def mine_until(self, *statuses: Status, seconds: float = 60) -> None:
        """Make blocks, slowly enough for the agent to follow, until the job is there."""
        end = time.monotonic() + seconds
        while self.job.status not in statuses:
            assert time.monotonic() < end, f"{self.job.status!r}\n{self.world.log()}"
            self.uploaded = self.uploaded or self.job.try_upload()
            time.sleep(0.15)
            self.world.anvil.step(4)

    def reorg(self, depth: int, kept: bool) -> None:
        """Replace the last blocks; keep their transactions or lose them."""
        anvil = self.world.anvil
        first = anvil.number() - depth + 1
        made: list[list[object]] = []
        for number in range(first, first + depth) if kept else ():
            for sent in anvil.block(number, full=True)["transactions"]:
                if sent["from"].lower() == self.world.operator.address.lower():
                    same: object = anvil.rpc("eth_getRawTransactionByHash", sent["hash"])
                else:  # sent without a signature, so it cannot be sent again by its bytes
                    same = {"from": sent["from"], "to": sent["to"], "data": sent["input"]}
                made.append([same, number - first])
        anvil.rpc("anvil_reorg", depth, made)
        self.world.deployment.forget_blocks()

    def post_again(self) -> None:
        """What a tenant does whose job has vanished. The job may be there under another id:
        its terms name the time of its block.
        """
        if self.job.status is not Status.NONE:
            return
        terms = self._on_chain()
        if terms is None:
            self.post(self.job.spec, self.job.directory)
        else:
            self.job = Job(self.world, terms, self.job.spec, self.job.directory)
        self.uploaded = False

    def _on_chain(self) -> Terms | None:
        pool = RpcPool([self.world.anvil.url], self.world.anvil.chain_id)
        contract = JobsContract(pool, self.world.jobs.address)
        logs = pool.logs([contract.address], 0, self.world.anvil.number())
        pool.close()
        posted = [e for e in map(contract.decode, logs) if isinstance(e, Posted)]
        return posted[-1].terms if posted else None


SCRIPT = """\
import os, time
time.sleep(1)
os.mkdir("out")
open("out/answer", "w").write("42")
"""


def follow(directory: Path, case: str, nursery: Nursery) -> None:
    """One job, one reorg."""
    name, fate, depth = case.split("-")
    with market(directory, Anvil(arguments=["--order", "fifo"]), challenge_window=10) as world:
        world.anvil.mine(12)
        world.fork_agent(nursery)
        story = Story(world)
        inputs = world.job_directory("job", SCRIPT)
        story.post(world.spec(inputs), inputs)
        if name in ("accept", "running"):
            story.mine_until(Status.ASSIGNED)
        if name == "running":
            world.until(lambda: world.rows("SELECT 1 FROM runs WHERE state = 'running'"), "run")
        if name in ("attest", "finalize"):
            story.mine_until(Status.ATTESTED)
        if name == "finalize":
            story.mine_until(Status.SETTLED)

        story.reorg(int(depth), kept=fate == "kept")

        for _ in range(3):  # the agent may see the loss before the tenant repairs it
            world.anvil.step(4)
            time.sleep(0.2)
        story.post_again()
        story.mine_until(Status.SETTLED)
        for _ in range(40):
            world.anvil.step(4)
            time.sleep(0.15)
            if not world.rows(OPEN):
                break
        assert world.rows(OPEN) == [], world.log()
        assert world.stop_agent() == 0
        assert world.left_processes() == []
        sent = world.deployment.sent_by(world.operator.address)
        # A call that names the time of an earlier step fails when a reorg has moved that step.
        assert {what: n for what, n in sent.items() if what[1]} == {
            ("accept", True): 1,
            ("attest", True): 1,
            ("finalize", True): 1,
        }, world.log()
        assert world.anvil.nonce(world.operator.address) == sum(sent.values())


OPEN = (
    "SELECT action, state FROM intents WHERE state NOT IN ('final', 'reverted', 'abandoned') "
    "UNION ALL SELECT run_id, state FROM runs WHERE state IN ('planned', 'running', 'exited')"
)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery
) -> Iterator[dict[str, Future[None]]]:
    # Made by one thread: pytest's factory is not made for several.
    base = tmp_path_factory.mktemp("cases")

    def run(case: str) -> None:
        follow(base / case, case, nursery)

    with together(request, "test_reorg__job_is_finished_once", run) as made:
        yield made


@pytest.mark.parametrize("case", cases())
def test_reorg__job_is_finished_once(case: str, outcomes: dict[str, Future[None]]) -> None:
    outcomes[case].result()
