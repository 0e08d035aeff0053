# SPDX-License-Identifier: Apache-2.0
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from provider_agent.core.health import Check, Health
from provider_agent.core.metrics import Metrics
from provider_agent.http.server import ApiServer, status_server
from provider_agent.http.status import create_status_app
from provider_agent.modules.jobs.metrics import JobMetrics
from provider_agent.modules.proofs.epochs import ProofReport
from provider_agent.modules.proofs.metrics import ProofMetrics
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from tests.agent.api_rig import JOB_ID, Rig, code_of, http, serve
from tests.support.sockets import sends_at_once


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(Rig(tmp_path)) as running:
        yield running


def test_healthz__process_alive__200(rig: Rig) -> None:
    answer = http.get(rig.url + "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "server" not in answer.headers


def test_healthz__loop_hangs__503(rig: Rig) -> None:
    rig.loop_moves = False
    answer = http.get(rig.url + "/healthz")
    assert (answer.status_code, code_of(answer)) == (503, Code.AGENT_HANGS)


def test_readyz__follows_the_last_cycle(rig: Rig) -> None:
    assert http.get(rig.url + "/readyz").status_code == 503
    rig.last_cycle = time.monotonic()
    assert http.get(rig.url + "/readyz").json()["ready"] is True
    rig.last_cycle = time.monotonic() - 31
    answer = http.get(rig.url + "/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"][0]["name"] == "reconcile"


def test_health__failing_check__named_without_its_text() -> None:
    def disk() -> Check:
        raise LocalError("/secret/path is full")

    health = Health(lambda: 10.0, 30, lambda: 12.0, [disk, lambda: Check("rpc", True)])
    ready, checks = health.report()
    assert not ready
    assert [(c.name, c.ok) for c in checks] == [("reconcile", True), ("disk", False), ("rpc", True)]
    assert "secret" not in checks[1].detail


def test_metrics__exposition__own_series_without_secrets(rig: Rig) -> None:
    rig.metrics.head_block.set(7)
    jobs = JobMetrics(rig.metrics)
    jobs.set_jobs({"OPEN": 2})
    jobs.set_jobs({"SETTLED": 1})
    rig.metrics.transaction("mined")
    rig.metrics.rpc_errors.labels("rpc.example").inc()
    rig.last_cycle = time.monotonic() - 31
    http.get(rig.url + "/healthz")
    answer = http.get(rig.status_url + "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        "teraproof_agent_head_block 7.0",
        'teraproof_agent_jobs{status="SETTLED"} 1.0',
        'teraproof_agent_transactions_total{event="mined"} 1.0',
        'teraproof_agent_transactions_total{event="failed"} 0.0',
        'teraproof_agent_rpc_errors_total{endpoint="rpc.example"} 1.0',
        'teraproof_agent_check_ok{check="reconcile"} 0.0',
        'teraproof_agent_http_requests_total{route="/healthz",status="200"} 1.0',
    ):
        assert line in answer.text.splitlines()
    assert "secret" not in answer.text and "OPEN" not in answer.text


def test_metrics__unknown_event__refused() -> None:
    with pytest.raises(ValueError, match="unknown transaction event"):
        Metrics().transaction("lost")


def test_app__unknown_route_or_method__json(rig: Rig) -> None:
    for method, path, status in (
        ("GET", "/", 404),
        ("GET", "/v1/jobs/", 404),
        ("DELETE", "/v1/provider", 405),
        ("POST", f"/v1/jobs/0x{JOB_ID.hex()}", 405),
    ):
        answer = http.request(method, rig.url + path)
        assert answer.status_code == status
        assert code_of(answer) is {404: Code.ROUTE_UNKNOWN, 405: Code.METHOD_NOT_ALLOWED}[status]


def test_app__bug_behind_it__500_without_traceback(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(token_hash: bytes, now: int) -> str:
        raise RuntimeError(f"bug at {rig.root}")

    monkeypatch.setattr(rig.store, "session", broken)
    headers = {"authorization": "Bearer " + "x" * 43}
    with caplog.at_level(logging.CRITICAL, "uvicorn.error"):
        answer = http.get(f"{rig.url}/v1/jobs/0x{JOB_ID.hex()}", headers=headers)
    assert answer.status_code == 500
    assert (code_of(answer), "bug" in answer.text) == (Code.INTERNAL, False)


def test_server__address_in_use__one_line(rig: Rig) -> None:
    port = int(rig.url.rsplit(":", 1)[1])
    server = ApiServer(rig.app(), "127.0.0.1", port)
    with pytest.raises(LocalError, match=f"^port {port} of 127.0.0.1 is in use; "):
        server.start()
    assert not server.running


def test_status__address_in_use__names_its_own_setting(rig: Rig) -> None:
    port = int(rig.status_url.rsplit(":", 1)[1])
    server = status_server(create_status_app(rig.health, rig.metrics), "127.0.0.1", port)
    with pytest.raises(LocalError, match=r"in use; change api\.status_port or"):
        server.start()


def test_server__stop__frees_port_and_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with serve(Rig(tmp_path)) as rig:
        ports = []
        for url in (rig.url, rig.status_url):
            http.get(url + "/healthz")
            ports.append(int(url.rsplit(":", 1)[1]))
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass
    assert not [t for t in threading.enumerate() if t.name in ("api", "status")]
    assert threading.active_count() <= before + 2


def test_servers__small_pieces_of_answers_leave_at_once(tmp_path: Path) -> None:
    with serve(Rig(tmp_path)) as rig, httpx.Client() as client:
        for url in (rig.url, rig.status_url):
            client.get(url + "/healthz")
            assert sends_at_once(int(url.rsplit(":", 1)[1])) == [True]


def test_metrics__proof__stage_and_outcomes() -> None:
    metrics = Metrics()
    report = ProofReport("cuda", 12, "window", 40, 30, 0, 8, 5000, paused=True)
    proofs = ProofMetrics(metrics)
    proofs.set(report)
    proofs.set(replace(report, stage="samples", paused=False, verified=3, ends_at=9000))
    proofs.ended("scored")
    lines = metrics.exposition().decode().splitlines()
    for line in (
        "teraproof_agent_proof_epoch 12.0",
        'teraproof_agent_proof_stage{stage="samples"} 1.0',
        "teraproof_agent_proof_rounds 40.0",
        "teraproof_agent_proof_committed_rounds 30.0",
        "teraproof_agent_proof_samples 8.0",
        "teraproof_agent_proof_verified_samples 3.0",
        "teraproof_agent_proof_ends_timestamp 9000.0",
        "teraproof_agent_proof_paused 0.0",
        "teraproof_agent_proof_score 5000.0",
        'teraproof_agent_proofs_total{outcome="scored"} 1.0',
        'teraproof_agent_proofs_total{outcome="void"} 0.0',
    ):
        assert line in lines
    assert not any('stage="window"' in line for line in lines)
    with pytest.raises(ValueError, match="unknown outcome"):
        proofs.ended("won")
