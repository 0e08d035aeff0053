# SPDX-License-Identifier: Apache-2.0
"""A real API server on 127.0.0.1 with its own storage, for the API tests.

What the agent reads from chain and database is plain data here; HTTP, sign-in, files and limits are
the real thing.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import httpx
import jsonschema
from eth_account import Account
from eth_account.signers.local import LocalAccount
from starlette.types import ASGIApp

from provider_agent.core.health import Health
from provider_agent.core.metrics import Metrics
from provider_agent.http.app import create_app
from provider_agent.http.auth import Authenticator
from provider_agent.http.deps import ApiDeps
from provider_agent.http.limits import ApiLimits
from provider_agent.http.server import ApiServer, status_server
from provider_agent.http.status import create_status_app
from provider_agent.http.uploads import InputStorage, Permit, StorageLimits
from provider_agent.modules.disputes.hearing import Hearing
from provider_agent.modules.disputes.routes import HearingRoutes
from provider_agent.modules.jobs.api import JobsApi
from provider_agent.modules.jobs.documents import JobView
from provider_agent.modules.jobs.evidence import Evidence
from provider_agent.modules.jobs.routes import operations
from teraproof.client.jobs import AgentClient
from teraproof.errors import LocalError, Refused
from teraproof.protocol import jobspec, messages, siwe
from teraproof.protocol.digests import Entry, Origin, manifest
from teraproof.protocol.errors import CODE_HEADER, Code, WireError
from teraproof.rpc.errors import Reverted

CHAIN_ID = 31_337
TENANT: LocalAccount = Account.from_key(b"\x01" * 32)
STRANGER: LocalAccount = Account.from_key(b"\x02" * 32)
OPERATOR: LocalAccount = Account.from_key(b"\x03" * 32)
WALLET = "0x00000000000000000000000000000000000A11cE"
JOBS = messages.Domain(CHAIN_ID, "0x" + "0b" * 20)
JOB_ID = b"\x07" * 32


ORIGIN = Origin(JOB_ID, "0x" + "0e" * 20)


def seals(manifest: bytes, job: bytes = JOB_ID) -> list[bytes]:
    """The seals of a result for the rounds of a dispute, the last round's first, and behind them
    what the chain has of it.
    """
    named = b"teraproof result 3" + job + bytes(12) + b"\x0e" * 20
    seal = hashlib.sha256(named + hashlib.sha256(manifest).digest()).digest()
    found = [seal]
    for _ in range(3):
        found.append(hashlib.sha256(found[-1]).digest())
    return found


def attested(manifest: bytes, job: bytes = JOB_ID) -> bytes:
    """What the chain has of a result."""
    return seals(manifest, job)[-1]


def check_error(answer: httpx.Response) -> None:
    """Every error that any test meets has the one shape."""
    if answer.status_code < 400:
        return
    answer.read()
    assert answer.headers["content-type"] == "application/json"
    code = code_of(answer)
    assert code.status == answer.status_code
    if answer.status_code in (429, 503):
        assert int(answer.headers["retry-after"]) > 0
    if answer.request.method != "HEAD":
        body = answer.json()
        jsonschema.validate(body, WireError.schema())
        assert body["error"]["code"] == code.value
        assert body["error"]["retryable"] is code.retryable


def code_of(answer: httpx.Response) -> Code:
    """The code of an error."""
    return Code[answer.headers[CODE_HEADER].upper()]


# One client for plain requests: making one reads all certificates each time.
http = httpx.Client(verify=False, trust_env=False, event_hooks={"response": [check_error]})


class MemoryStore:
    """Sessions, nonces and specifications in memory, with the semantics of the agent's store."""

    def __init__(self) -> None:
        self.nonces: dict[str, int] = {}
        self.sessions: dict[bytes, tuple[str, int]] = {}
        self.specs: dict[bytes, tuple[bytes, str]] = {}
        self.named: set[bytes] = set()  # specifications that jobs on chain name
        self._lock = threading.Lock()

    def create_nonce(self, value: str, expires: int) -> None:
        self.nonces[value] = expires

    def consume_nonce(self, value: str, now: int) -> bool:
        with self._lock:
            return self.nonces.pop(value, -1) >= now

    def create_session(self, token_hash: bytes, address: str, expires: int) -> None:
        self.sessions[token_hash] = (address, expires)

    def session(self, token_hash: bytes, now: int) -> str | None:
        address, expires = self.sessions.get(token_hash, ("", -1))
        return address if expires >= now else None

    def put_spec(self, digest: bytes, body: bytes, uploader: str) -> None:
        self.specs.setdefault(digest, (body, uploader))

    def spec(self, digest: bytes) -> bytes | None:
        return self.specs[digest][0] if digest in self.specs else None

    def spec_usage(self, uploader: str | None = None) -> tuple[int, int]:
        held = [
            body
            for digest, (body, by) in self.specs.items()
            if uploader in (None, by) and digest not in self.named
        ]
        return len(held), sum(map(len, held))

    def spec_bytes(self) -> int:
        return sum(len(body) for body, _ in self.specs.values())

    def is_named(self, digest: bytes) -> bool:
        return digest in self.named


class NobodyIsDrawn:
    """An agent without a court."""

    def of(self, job_id: bytes, account: str, seal: str | None = None) -> Evidence:
        raise Refused(Code.NOT_DRAWN, "only a juror drawn for the job may see this")

    def input(self, found: Evidence, entry: Entry) -> Path:
        raise AssertionError


class FixedPrice:
    """Issues quotes at one price and refuses GPU jobs."""

    def issue(
        self, requester: str, spec: jobspec.JobSpec, judged: int = 0
    ) -> tuple[messages.Quote, bytes]:
        if spec.resources.gpus:
            raise Refused(Code.LIMIT_EXCEEDED, "this provider has no GPU; ask for gpus 0")
        expires = int(time.time()) + 600
        quote = messages.Quote(
            OPERATOR.address,
            requester,
            spec.digest(),
            5_000_000,
            10**18,
            3_600,
            expires,
            2**200,
            judged,
        )
        return quote, messages.sign(JOBS, quote, OPERATOR)


@dataclass
class Rig:
    """The running server and what stands behind it."""

    root: Path
    limits: ApiLimits = field(default_factory=ApiLimits)
    storage_limits: StorageLimits = field(default_factory=StorageLimits)
    store: MemoryStore = field(default_factory=MemoryStore)
    jobs: dict[bytes, JobView] = field(default_factory=dict)
    uploaders: set[str] = field(default_factory=lambda: {TENANT.address})
    # The (digest, size) of inputs that specifications name; None: any.
    inputs_named: set[tuple[str, int]] | None = None
    # Why the provider would not run the jobs of these inputs.
    upload_refusal: Refused | None = None
    worth: int | None = 0  # of what is uploaded
    trusted_proxies: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    metrics: Metrics = field(default_factory=Metrics)
    last_cycle: float | None = None
    loop_moves: bool = True
    # What the contract wallet at WALLET says to isValidSignature; None: there is no contract.
    wallet_signer: str | None = None
    url: str = ""
    desk: FixedPrice = field(default_factory=FixedPrice)
    evidence: Any = None  # what jurors may read; None: nobody is drawn
    hearing: Any = None  # what a juror takes in; None: no disputes
    status: ApiServer | None = None

    def job(self, job_id: bytes) -> JobView | None:
        return self.jobs.get(job_id)

    def spec(self, digest: bytes) -> jobspec.JobSpec | None:
        body = self.store.spec(digest)
        return None if body is None else jobspec.parse_named(body, digest)

    def issue(
        self, requester: str, spec: jobspec.JobSpec, judged: int = 0
    ) -> tuple[messages.Quote, bytes]:
        return self.desk.issue(requester, spec, judged)

    def eth_call(self, to: str, data: bytes) -> bytes:
        if to != WALLET or self.wallet_signer is None:
            return b""
        digest, signature = data[4:36], data[100:165]
        try:
            signer = messages.recover_signer(digest, signature)
        except LocalError:
            signer = None
        if signer != self.wallet_signer:
            raise Reverted("wallet: not an owner")
        return bytes.fromhex("1626ba7e") + bytes(28)

    def deps(self) -> ApiDeps:
        expected = siwe.Expected.at(self.url, CHAIN_ID, self.origins)
        return ApiDeps(
            auth=Authenticator(self.store, expected, self.eth_call),
            provider=lambda: {"operator": OPERATOR.address, "runtimes": ["python-ml"]},
            health=self.health,
            metrics=self.metrics,
            origins=self.origins,
            limits=self.limits,
        )

    def app(self) -> ASGIApp:
        """The API with the routes of jobs and jurors."""
        self.inputs = InputStorage(self.root / "inputs", self.storage_limits)
        api = JobsApi(
            jobs=self,
            evidence=self.evidence or NobodyIsDrawn(),
            specs=self.store,
            inputs=self.inputs,
            may_upload=self.may_upload,
            quotes=self,
            limits=self.limits,
        )
        hearing = self.hearing or Hearing(self.root / "juror", lambda: 0)
        return create_app(
            self.deps(),
            [partial(operations, api), lambda door: HearingRoutes(hearing, door).operations()],
        )

    @cached_property
    def status_url(self) -> str:
        """Where health and metrics are; their server starts when somebody asks."""
        self.status = status_server(create_status_app(self.health, self.metrics), "127.0.0.1", 0)
        self.status.start()
        return f"http://127.0.0.1:{self.status.port}"

    @property
    def health(self) -> Health:
        return Health(lambda: self.last_cycle, 30, time.monotonic, moves=lambda: self.loop_moves)

    def may_upload(self, account: str, sha256: str, size: int) -> Permit | None:
        if self.upload_refusal is not None:
            raise self.upload_refusal
        named = self.inputs_named is None or (sha256, size) in self.inputs_named
        return Permit(worth=self.worth) if account in self.uploaders and named else None

    def client(self, account: LocalAccount = TENANT, **options: Any) -> AgentClient:
        return AgentClient(self.url, account, timeout=5, **options)

    def add_result(self, files: dict[str, bytes], job_id: bytes = JOB_ID) -> bytes:
        """Give a job of TENANT a collected result; returns its digest."""
        results = self.root / "results" / job_id.hex()
        for name, content in files.items():
            (results / name).parent.mkdir(parents=True, exist_ok=True)
            (results / name).write_bytes(content)
        results.mkdir(parents=True, exist_ok=True)
        data = manifest(results)
        self.jobs[job_id] = replace(
            self.jobs.get(job_id, JobView(TENANT.address, {"status": "ATTESTED"})),
            manifest=self.keep_manifest(data, job_id),
            results=results,
        )
        return attested(data, job_id)

    def keep_manifest(self, data: bytes, job_id: bytes = JOB_ID) -> Path:
        """A file with a manifest, next to the result's own."""
        file = self.root / f"{job_id.hex()}.manifest"
        file.write_bytes(data)
        return file

    def left_behind(self) -> list[str]:
        """Temporary files of uploads."""
        return [path.name for path in (self.root / "inputs" / "incoming").iterdir()]


@contextmanager
def serve(rig: Rig) -> Iterator[Rig]:
    """Run the API of `rig` on a free port; sets `rig.url`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    rig.url = f"http://127.0.0.1:{port}"
    server = ApiServer(rig.app(), "127.0.0.1", port, rig.limits, rig.trusted_proxies)
    server.start()
    try:
        yield rig
    finally:
        server.stop()
        if rig.status is not None:
            rig.status.stop()


def wait_until(condition: Any, seconds: float = 5) -> None:
    """Wait for something that another thread does; AssertionError when it does not happen."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def make_spec(files: dict[str, bytes], gpus: int = 0) -> jobspec.JobSpec:
    """A specification with these inputs."""
    return jobspec.parse(
        jobspec.canonical(
            {
                "version": 1,
                "kind": "batch",
                "name": "test",
                "runtime": "python-ml",
                "command": ["python", "main.py"],
                "env": {},
                "inputs": [
                    {"path": p, "sha256": hashlib.sha256(c).hexdigest(), "size": len(c)}
                    for p, c in files.items()
                ],
                "outputs": ["out"],
                "resources": {"cpus": 1, "memory_mb": 64, "disk_mb": 64, "gpus": gpus},
                "timeout_seconds": 60,
                "deterministic": True,
                "network": False,
            }
        )
    )
