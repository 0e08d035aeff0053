# SPDX-License-Identifier: Apache-2.0
"""Start-up checks: each finds what it is there for."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider_agent import devices
from provider_agent.checks import Finding, Mark, startup
from provider_agent.core.settings import Settings
from provider_agent.core.standing import Standing
from provider_agent.core.trial import Trial, finding
from provider_agent.modules.all import open_store
from provider_agent.modules.proofs import checks as proofs
from provider_agent.runners.process import ProcessRunner
from provider_agent.settings import validate
from teraproof.rpc.client import RpcPool
from teraproof.rpc.types import BlockRef
from tests.agent.duty_parts import JOBS, OPERATOR, STAKING
from tests.agent.stub_node import Refusal, Result, StubNode, block
from tests.support import runs
from tests.support.anvil import Anvil

BENCHMARK, EMISSIONS = "0x" + "0c" * 20, "0x" + "0e" * 20
NAMES = [
    "data", "key", "database", "devices", "api",
    "rpc", "clock", "fees", "contracts", "gas", "provider",
]  # fmt: skip
JOBS_CHECKS = ["market", "runtimes", "machine", "sandbox"]
PROOFS_CHECKS = ["benchmark", "prover", "bond"]


def settings_of(folder: Path, anvil: Anvil, **changes: dict[str, Any]) -> Settings:
    key = folder / "operator.key"
    key.write_text(OPERATOR.key.hex())
    key.chmod(0o600)
    runtime = folder / "runtime"
    (runtime / "bin").mkdir(parents=True, exist_ok=True)
    (runtime / "bin" / "python").touch()
    sections: dict[str, dict[str, Any]] = {
        "chain": {
            "rpc_urls": [anvil.url],
            "chain_id": anvil.chain_id,
            "staking": STAKING,
            "jobs": JOBS,
        },
        "operator": {"private_key_file": key},
        "agent": {"data_dir": folder / "data"},
        "runner": {
            "sandbox": "none",
            "runtimes": {"python-ml": runtime},
            "allow_unlimited": runs.accepted("none"),
        },
    }
    for name, values in changes.items():
        sections[name] = sections.get(name, {}) | values
    return validate(sections)


def findings(folder: Path, anvil: Anvil, **changes: dict[str, Any]) -> dict[str, Finding]:
    found = {finding.name: finding for finding in startup(settings_of(folder, anvil, **changes))}
    assert all("\n" not in finding.line for finding in found.values())
    return found


def test_startup__default_behavior(tmp_path: Path) -> None:
    with Anvil() as fresh:  # other tests move the time of the session's chain
        found = findings(tmp_path, fresh)
    assert list(found) == NAMES + JOBS_CHECKS
    good = {name for name, finding in found.items() if finding.ok and not finding.warning}
    assert good >= {"data", "key", "database", "devices", "runtimes", "rpc", "clock"}
    assert found["key"].line == f"operator {OPERATOR.address}"
    # Nothing is deployed here, and the key has no money.
    assert "there is no contract at chain.staking" in found["contracts"].line
    assert "there is no contract at chain.jobs" in found["market"].line
    assert found["provider"].skipped and "the check contracts" in found["provider"].line
    assert not found["gas"].ok and f"send ETH to {OPERATOR.address}" in found["gas"].line
    assert found["rpc"].line.endswith(", 1 endpoint")
    assert found["sandbox"].warning


def test_startup__proofs_and_rewards__checked_when_asked_for(tmp_path: Path, anvil: Anvil) -> None:
    places = {"benchmark": BENCHMARK, "emissions": EMISSIONS}
    found = findings(tmp_path, anvil, chain=places)
    assert list(found) == [*NAMES, *PROOFS_CHECKS, *JOBS_CHECKS, "rewards"]
    assert "there is no contract at chain.benchmark" in found["benchmark"].line
    assert "there is no contract at chain.emissions" in found["rewards"].line
    assert found["prover"].ok and found["prover"].line.startswith("cpu")
    assert found["bond"].skipped and "the check benchmark" in found["bond"].line
    found = findings(tmp_path, anvil, chain=places, benchmark={"enabled": False})
    assert list(found) == [*NAMES, *JOBS_CHECKS, "rewards"]


def test_startup__device_cannot_prove__says_why(tmp_path: Path, anvil: Anvil) -> None:
    chain, benchmark = {"benchmark": BENCHMARK}, {"device": "cuda:63"}
    found = findings(tmp_path, anvil, chain=chain, benchmark=benchmark)
    assert not found["prover"].ok and "CUDA" in found["prover"].line


def test_startup__money_for_gas(tmp_path: Path, anvil: Anvil) -> None:
    anvil.set_balance(OPERATOR.address, 10**18)
    found = findings(tmp_path, anvil)
    assert found["gas"].line == "1 ETH" and not found["gas"].warning
    anvil.set_balance(OPERATOR.address, 1)
    found = findings(tmp_path, anvil)
    assert found["gas"].ok and found["gas"].warning and "is little" in found["gas"].line


def test_startup__node_is_down__what_needs_it_says_so(tmp_path: Path, anvil: Anvil) -> None:
    found = findings(tmp_path, anvil, chain={"rpc_urls": ["http://127.0.0.1:1"]})
    assert not found["rpc"].ok
    for name in ("clock", "fees", "contracts", "gas", "provider", "market"):
        assert found[name].skipped and "the check rpc" in found[name].line
    assert found["runtimes"].ok


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"chain": {"rpc_urls": ["http://127.0.0.1:1"]}},
        {"chain": {"chain_id": 5}},
        {"operator": {"private_key_file": "/nowhere"}},
        {"agent": {"data_dir": "/dev/null/x"}},
        {"runner": {"gpus": 60}},
    ],
)
def test_startup__skipped__only_behind_one_that_did_not_pass(
    tmp_path: Path, anvil: Anvil, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that is refused is refused for its cause; a skip alone says nothing is wrong."""
    monkeypatch.setattr(proofs, "measure", lambda *_: ("cpu", 1e9))  # which takes a process
    chain = {"benchmark": BENCHMARK, "emissions": EMISSIONS} | changes.pop("chain", {})
    found = findings(tmp_path, anvil, chain=chain, **changes)
    seen: list[str] = []
    for name, one in found.items():
        if one.skipped:
            named = [earlier for earlier in seen if f"the check {earlier} " in one.line]
            assert named and not any(found[earlier].ok for earlier in named), one
        seen.append(name)
    assert any(one.mark is Mark.FAIL for one in found.values())


def test_bond__operator_of_nobody__not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent may start before its owner registers: the bond is not at fault."""
    monkeypatch.setattr(Standing, "look", lambda self, block: None)
    trial = Trial(Settings.model_construct(chain=SimpleNamespace(staking=STAKING)))
    trial.address, trial.pool = OPERATOR.address, cast(RpcPool, object())
    found = finding("bond", lambda: str(trial.provider(BlockRef(1, bytes(32), 1))))
    assert found.skipped and "no provider with stake" in found.line


def test_startup__another_chain(tmp_path: Path, anvil: Anvil) -> None:
    found = findings(tmp_path, anvil, chain={"chain_id": 5})
    assert not found["rpc"].ok


def test_startup__one_of_two_endpoints_is_down(tmp_path: Path, anvil: Anvil) -> None:
    urls = [anvil.url, "http://127.0.0.1:1"]
    found = findings(tmp_path, anvil, chain={"rpc_urls": urls})
    assert found["rpc"].ok and found["rpc"].warning
    assert "rpc2" in found["rpc"].line


def test_startup__clock_is_behind_the_chain(tmp_path: Path, anvil: Anvil) -> None:
    anvil.increase_time(1000)
    found = findings(tmp_path, anvil)
    assert found["clock"].warning and "in the future" in found["clock"].line


def test_startup__key_can_be_read_by_others(tmp_path: Path, anvil: Anvil) -> None:
    settings = settings_of(tmp_path, anvil)
    (tmp_path / "operator.key").chmod(0o644)
    found = {finding.name: finding for finding in startup(settings)}
    assert "chmod 600" in found["key"].line
    assert found["gas"].skipped and "the check key" in found["gas"].line


def test_startup__database_of_another_program(tmp_path: Path, anvil: Anvil) -> None:
    settings = settings_of(tmp_path, anvil)
    settings.agent.data_dir.mkdir()
    (settings.agent.data_dir / "agent.sqlite").write_bytes(b"not a database" * 100)
    found = {finding.name: finding for finding in startup(settings)}
    assert not found["database"].ok


def test_startup__database_of_this_agent(tmp_path: Path, anvil: Anvil) -> None:
    settings = settings_of(tmp_path, anvil)
    settings.agent.data_dir.mkdir()
    open_store(settings.agent.data_dir / "agent.sqlite").close()
    found = {finding.name: finding for finding in startup(settings)}
    name, _, steps = found["database"].line.partition(", ")
    assert name == "agent.sqlite"
    # Of each part the last step that its tables have seen; how many there are changes often.
    parts = [re.fullmatch(r"([a-z]+)[1-9]\d*", each) for each in steps.split("-")]
    assert [part and part[1] for part in parts] == [
        *("core", "disputes", "inference", "jobs", "leases", "proofs")
    ]


def test_startup__data_directory_is_a_file(tmp_path: Path, anvil: Anvil) -> None:
    (tmp_path / "data").write_text("")
    found = findings(tmp_path, anvil)
    assert not found["data"].ok and "agent.data_dir" in found["data"].line
    assert found["sandbox"].skipped and found["database"].skipped


@pytest.mark.parametrize("runtimes", [{}, {"python-ml": "/nowhere"}])
def test_startup__runtimes(tmp_path: Path, anvil: Anvil, runtimes: dict[str, str]) -> None:
    found = findings(tmp_path, anvil, runner={"runtimes": runtimes})
    assert found["runtimes"].warning is not bool(runtimes)
    assert found["runtimes"].ok is not bool(runtimes)


def test_startup__more_gpus_promised_than_there_are(tmp_path: Path, anvil: Anvil) -> None:
    found = findings(tmp_path, anvil, runner={"gpus": 60}, agent={"slots": 2})
    assert not found["devices"].ok and "120 GPUs promised" in found["devices"].line


def gpu(number: int) -> devices.Device:
    return devices.Device("cuda", number, "H100", f"GPU-{number}", 1, node="/dev/null")


def test_startup__one_of_two_gpus_is_lost__said_and_started(
    tmp_path: Path, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = devices.Survey((gpu(0),), ("GPU 1: GPU is lost",))
    monkeypatch.setattr(devices, "GPU_NODES", ())
    monkeypatch.setattr(devices, "survey", lambda: survey)
    monkeypatch.setattr(ProcessRunner, "probe", lambda self, device: "cuInit: (999)")
    found = findings(tmp_path, anvil, runner={"gpus": 1}, agent={"slots": 2})
    assert found["devices"].warning
    assert "2 GPUs promised" in found["devices"].line and "GPU is lost" in found["devices"].line
    assert found["gpus"].warning and "GPU-0: cuInit: (999)" in found["gpus"].line


def test_startup__no_gpu_answers__in_the_words_of_the_library(
    tmp_path: Path, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = devices.Survey((), ("NVML does not start: Driver/library version mismatch",))
    monkeypatch.setattr(devices, "survey", lambda: survey)
    found = findings(tmp_path, anvil, runner={"gpus": 1})
    assert not found["devices"].ok and "version mismatch" in found["devices"].line
    assert found["gpus"].skipped and "the check devices" in found["gpus"].line


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        ({"cpus": 500}, "runner.cpus is 500"),
        ({"memory_mb": 99_999_999}, "runner.memory_mb"),
    ],
)
def test_startup__more_promised_than_this_machine_has(
    tmp_path: Path, anvil: Anvil, runner: dict[str, Any], words: str
) -> None:
    found = findings(tmp_path, anvil, runner=runner)["machine"]
    assert not found.ok and words in found.line


def test_startup__more_slots_than_memory(tmp_path: Path, anvil: Anvil) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    changes = {"runner": {"memory_mb": memory // 3}, "agent": {"slots": 3}}
    found = findings(tmp_path, anvil, **changes)["machine"]
    assert not found.ok and "3 slots" in found.line


def test_startup__disk(tmp_path: Path, anvil: Anvil) -> None:
    found = findings(tmp_path, anvil, runner={"disk_mb": 1 << 30})["machine"]
    # What is free changes; a job that does not fit is not taken.
    assert found.ok and found.warning and "runner.disk_mb" in found.line
    found = findings(tmp_path, anvil, runner={"disk_reserve_mb": 1 << 30})["machine"]
    assert not found.ok and "no room for any job" in found.line


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            lambda m, p: Refusal(-32005, "daily limit reached") if m == "eth_getLogs" else None,
            "refuses eth_getLogs: daily limit reached",
        ),
        (lambda m, p: Refusal(-32600, "Must be authenticated!", 401), "Must be authenticated!"),
        (
            lambda m, p: Refusal(-32601, "no receipts") if "Receipt" in m else None,
            "no receipts",
        ),
    ],
)
def test_startup__endpoint_refuses_what_the_agent_does__said_in_its_words(
    tmp_path: Path, anvil: Anvil, rule: Any, words: str
) -> None:
    with StubNode(rule) as bad:
        found = findings(tmp_path, anvil, chain={"rpc_urls": [bad.url]})
        assert not found["rpc"].ok and words in found["rpc"].line
        found = findings(tmp_path, anvil, chain={"rpc_urls": [bad.url, anvil.url]})
        assert found["rpc"].ok and found["rpc"].warning and words in found["rpc"].line


def test_startup__fees__a_dry_offer(tmp_path: Path, anvil: Anvil) -> None:
    assert "gwei at most" in findings(tmp_path, anvil)["fees"].line
    found = findings(tmp_path, anvil, chain={"max_fee_gwei": "0.000000001"})
    assert found["fees"].warning and "above chain.max_fee_gwei" in found["fees"].line


def test_startup__chain_without_a_fee_market__told(tmp_path: Path, anvil: Anvil) -> None:
    with StubNode(base=None) as old:
        found = findings(tmp_path, anvil, chain={"rpc_urls": [old.url]})
        assert "the old kind of transaction" in found["fees"].line


def test_startup__old_head__told(tmp_path: Path, anvil: Anvil) -> None:
    def rule(method: str, params: list[Any]) -> Any:
        if method == "eth_getBlockByNumber":
            number = 100 if params[0] == "latest" else int(params[0], 16)
            return Result(block(number, when=int(time.time()) - 7200 - 12 * (100 - number)))
        return None

    with StubNode(rule) as node:
        found = findings(tmp_path, anvil, chain={"rpc_urls": [node.url]})
        assert found["clock"].warning and "the endpoints lag" in found["clock"].line


def test_startup__doors__free_or_said(tmp_path: Path, anvil: Anvil) -> None:
    free = findings(tmp_path, anvil, api={"port": 0})["api"]
    assert free.ok and not free.warning
    assert "127.0.0.1 port any, status on 127.0.0.1 port any, 256 connections" in free.line
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for name in ("port", "status_port"):
            found = findings(tmp_path, anvil, api={"port": 0, name: port})["api"]
            assert found.warning and f"in use; change api.{name} or" in found.line


def test_startup__address_of_another_machine__refused(tmp_path: Path, anvil: Anvil) -> None:
    for name in ("host", "status_host"):
        found = findings(tmp_path, anvil, api={"port": 0, name: "192.0.2.1"})["api"]
        assert not found.ok and "cannot listen on 192.0.2.1" in found.line
