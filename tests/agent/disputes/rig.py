# SPDX-License-Identifier: Apache-2.0
"""A juror's bench with a runner and a provider's agent that are plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from provider_agent.core import background, fetches
from provider_agent.core.capacity import Amounts, Capacity
from provider_agent.core.demands import Demands
from provider_agent.core.fleet import Fleet
from provider_agent.core.settings import RunnerSettings
from provider_agent.devices import Survey
from provider_agent.modules.disputes.bench import Bench, Finding, Task, Tools
from provider_agent.runners.base import Phase, Reason
from teraproof.errors import LocalError
from teraproof.protocol import digests
from teraproof.protocol.capability import Capability
from teraproof.protocol.digests import Entry, Origin, manifest
from teraproof.protocol.dispute import Case
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec, canonical, parse
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.agent.duty_parts import OTHER, OWNER, START, TENANT, PlainRunner

JOB = b"\x21" * 32
INPUT = b"print(1)"
PLENTY = Amounts(
    slots=4, memory=10**11, cpu=64_000, disk=10**12, inodes=10**7, collateral=10**27, gas=100
)
UNTIL = START + 10_000


def spec_of(**changes: Any) -> JobSpec:
    document = {
        "version": 1,
        "kind": "batch",
        "name": "judged",
        "runtime": "plain",
        "command": ["python", "job.py"],
        "env": {},
        "inputs": [
            {"path": "job.py", "sha256": hashlib.sha256(INPUT).hexdigest(), "size": len(INPUT)}
        ],
        "outputs": ["answer"],
        "resources": {"cpus": 1, "memory_mb": 64, "disk_mb": 64, "gpus": 0},
        "timeout_seconds": 30,
        "deterministic": True,
        "network": False,
        **changes,
    }
    return parse(canonical(document))


class Served:
    """A provider's agent as a juror sees it: it serves what it wants to."""

    def __init__(self) -> None:
        self.spec = spec_of()
        self.inputs: bytes | None = INPUT
        self.files: dict[str, bytes] | None = {"answer": b"42"}
        self.shows = False
        """Whether the result is shown to a juror that has not run the job."""
        self.asked: list[bytes | None] = []
        self.most = (0, 0)
        """Bytes and files of a result that a juror was ready to take."""
        self.cuts = 0
        self.before: Callable[[str], None] = lambda what: None
        """Called when something is asked for, with what it is."""

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        pass

    def cut_off(self) -> None:
        self.cuts += 1

    def fetch_spec(self, job: bytes, name: bytes) -> JobSpec:
        if name != self.spec.digest():
            raise LocalError("not here", Code.SPEC_MISSING)
        return self.spec

    def fetch_inputs(self, job: bytes, spec: JobSpec, place: Path, most: int) -> None:
        self.before("inputs")
        if self.inputs is None or spec != self.spec:
            raise LocalError("not here", Code.INPUT_MISSING)
        place.mkdir(parents=True, exist_ok=True)
        for entry in self.spec.inputs:
            (place / entry.sha256).write_bytes(self.inputs)

    def fetch_result(
        self,
        origin: Origin,
        place: Path,
        digest: bytes,
        max_bytes: int,
        *,
        max_files: int,
        as_juror: bool,
        seal: bytes | None,
    ) -> list[Entry]:
        assert as_juror
        self.before("result")
        self.most = (max_bytes, max_files)
        self.asked.append(seal)
        if self.files is None:
            raise LocalError("nobody there", Code.AGENT_UNREACHABLE)
        if not self.shows and seal is None:
            raise LocalError("run it first", Code.NOT_REQUESTER)
        if not place.exists():
            lay(place, self.files)
        if digests.result_digest(manifest(place), origin) != digest:
            raise LocalError("it is not the one attested", Code.RESULT_MISMATCH)
        return digests.entries(place)


def lay(place: Path, files: dict[str, bytes]) -> bytes:
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    return manifest(place)


class BenchRig:
    """See the module. `answers` are what our own runs give, one after the other."""

    def __init__(self, folder: Path, attested: dict[str, bytes], **spec: Any) -> None:
        background._PATIENCE = fetches._PATIENCE = 30.0
        self.folder, self.served = folder, Served()
        self.served.spec, self.served.files = spec_of(**spec), attested
        self.attested = lay(folder / "attested", attested)
        self.runner = PlainRunner(folder / "runs")
        self.there = PLENTY
        """What the machine has: what a test takes away is missing from then on."""
        self.capacity = Capacity(lambda: self.there)
        self.now, self.monotonic = START, 0.0
        self.case = Case(
            JOB,
            OWNER,
            TENANT,
            OTHER,
            ZERO_ADDRESS,
            Capability("batch", "plain", "cpu").number().to_bytes(32, "big"),
            digests.result_digest(self.attested, Origin(JOB, OWNER)),
            10**6,
            600,
        )
        self.slots = 1
        self.restart()

    def restart(self) -> None:
        """A new process over the same disk."""
        settings = RunnerSettings(runtimes={"plain": self.folder}, memory_mb=512)
        self.bench = Bench(
            self.folder / "juror",
            Tools(
                runner=self.runner,
                demands=Demands(settings, lambda: 0),
                capacity=self.capacity,
                fleet=Fleet(0, survey=lambda: Survey(())),
                runtimes=settings.runtimes,
                slots=self.slots,
                client=lambda owner, until: cast(Any, self.served),
                input_bytes=10**9,
            ),
            lambda: self.monotonic,
        )

    def judge(self, times: int = 1) -> Finding | None:
        """Some cycles, with pauses between them."""
        found = None
        for _ in range(times):
            self.monotonic += 60
            found = self.bench.judge(Task(self.case, self.served.spec.digest(), UNTIL), self.now)
        return found

    def run(
        self, answer: bytes = b"42", reason: Reason = Reason.EXITED, code: int | None = 0
    ) -> None:
        """Let our own run come to an end."""
        assert self.judge() is None
        run_id = f"juror-{JOB.hex()}"
        assert run_id in self.runner.list(), self.bench.why(JOB)
        self.runner.end(run_id, reason, code)
        (self.folder / "runs" / run_id / "outputs" / "answer").write_bytes(answer)


def failure(code: int | None, reason: str = "exited", salt: str | None = "aa") -> bytes:
    value: dict[str, Any] = {"exit_code": code, "reason": reason}
    return json.dumps(value | ({} if salt is None else {"salt": salt})).encode()


def phases(runner: PlainRunner) -> Sequence[Phase]:
    return [state.phase for state in runner.states.values()]
