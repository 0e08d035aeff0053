# SPDX-License-Identifier: Apache-2.0
"""Checkpoints from the tenant's side: what an order says of them, who opens the store, and a lease
that is ordered once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.market.ports import free_port
from teraproof.market import lease_saves
from teraproof.protocol.errors import Code, Exit
from teraproof.protocol.lease_checkpoints import AskedSave
from teraproof.protocol.lease_terms import LeaseStatus
from tests.sdk.lease_stage import OFFER, PLAIN, Agent, LeaseStage, deploy_leases
from tests.support.anvil import Anvil
from tests.support.sdl import changed

SECRET = "a-secret-key-of-the-store"
SAVING = replace(OFFER, checkpoints=True)
STORE = {"endpoint": "https://store.example", "key_id": "KEY", "secret": SECRET}
WANTED = "page:/work/run=s3://bucket/run"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeaseStage]:
    with Anvil() as anvil:
        yield deploy_leases(tmp_path_factory.mktemp("home"), anvil)


@pytest.fixture(scope="module")
def providers(stage: LeaseStage) -> Iterator[tuple[Agent, Agent]]:
    with stage.agent(free_port()) as one, stage.agent(free_port()) as other:
        yield one, other


@pytest.fixture
def agent(providers: tuple[Agent, Agent], monkeypatch: pytest.MonkeyPatch) -> Agent:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for one in providers:
        one.forget()
        one.offer = SAVING
    return providers[0]


@pytest.fixture
def other(agent: Agent, providers: tuple[Agent, Agent]) -> Agent:
    return providers[1]


@pytest.fixture
def file(tmp_path: Path) -> str:
    volumes = "storage: [{size: 1Gi}, {size: 1Gi, name: work}, {size: 1Gi, name: fixed}]"
    text = changed(PLAIN, "storage:\n          size: 1Gi", volumes).decode()
    mounts = (
        "    params: {storage: {work: {mount: /work}, fixed: {mount: /fixed, readOnly: true}}}\n"
    )
    path = tmp_path / "train.yaml"
    path.write_bytes(changed(text, "profiles:\n  compute", f"{mounts}profiles:\n  compute"))
    return str(path)


@pytest.fixture
def access(tmp_path: Path) -> str:
    path = tmp_path / "store.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(STORE))
    return str(path)


def test_hired__the_specification_names_it_and_the_provider_alone_can_open_the_store(
    stage: LeaseStage, agent: Agent, other: Agent, file: str, access: str
) -> None:
    saves = ("--checkpoints", WANTED, "--checkpoint-every", "1 minute", "--access", access)
    shown = stage.tenant.json("lease", "hire", file, agent.owner, *saves)
    (sent,) = [json.loads(body) for body in agent.specs.values()]
    assert sent["checkpoints"] == {
        "service": "page",
        "path": "/work/run",
        "uri": "s3://bucket/run",
        "every_seconds": 60,
        "keep": 3,
    }
    (given,) = agent.logins.values()
    assert given.store is not None and not other.logins
    assert dict(given.store) == {
        **STORE,
        "endpoint": given.store["endpoint"],
        "region": "us-east-1",
    }
    assert given.store["endpoint"].startswith("https://store.example")
    for path in stage.home.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    refused = stage.tenant.run(
        *("lease", "resume", shown["lease"]), *stage.tenant._options(("lease",))
    )
    assert refused.exit_code != Exit.OK and "goes on" in refused.output
    stage.tenant.json("lease", "close", shown["lease"])
    store = ("--checkpoints", "s3://bucket/other", "--access", access)
    twice = ("lease", "watch", shown["lease"], *store)
    code, line = stage.tenant.fails(Exit.INPUT, *twice)
    assert code == Code.INPUT_INVALID and "--checkpoints: this lease names its own" in line

    # Once more elsewhere, by one command: the same work, and the same store.
    agent.offer = OFFER
    later = stage.tenant.json("lease", "resume", shown["lease"])
    assert later["status"] == "active" and later["confirmed"]
    assert later["provider"] == other.owner and later["spec"] == shown["spec"]
    assert [dict(one.store or {}) for one in other.logins.values()] == [dict(given.store)]
    assert later["term"] <= shown["term"]
    stage.tenant.json("lease", "close", later["lease"])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("page=/work", "SERVICE:PATH=URI"),
        ("nobody:/work=s3://bucket/run", "not a service"),
        ("page:/elsewhere=s3://bucket/run", "volume"),
        ("page:/fixed=s3://bucket/run", "volume"),
        ("page:/workshop=s3://bucket/run", "volume"),
        ("page:/work=https://store.example/run", "s3://bucket/prefix"),
        (f"page:/work=https://me:{SECRET}@store.example/run", "user or a password"),
        ("page:/work=s3://b/run", "bucket"),
    ],
)
def test_checkpoints_that_cannot_be__refused_before_anybody_is_asked(
    stage: LeaseStage, agent: Agent, file: str, wanted: str, said: str
) -> None:
    line = ("lease", "hire", file, agent.owner, "--checkpoints", wanted)
    done = stage.tenant.run(*line, *stage.tenant._options(line))
    assert done.exit_code == Exit.INPUT and said in done.output, done.output
    assert SECRET not in done.output and not agent.seen


def test_store_that_cannot_be_opened__no_money_moves(
    stage: LeaseStage, agent: Agent, file: str, tmp_path: Path
) -> None:
    (tmp_path / "open.json").write_text(json.dumps(STORE))
    (tmp_path / "open.json").chmod(0o644)
    for path in ("missing.json", "open.json"):
        line = ("lease", "hire", file, agent.owner, "--checkpoints", WANTED)
        more = ("--access", str(tmp_path / path))
        done = stage.tenant.run(*line, *more, *stage.tenant._options(line))
        assert done.exit_code == Exit.INPUT and path in done.output, done.output
        assert SECRET not in done.output
    (tmp_path / "open.json").chmod(0o600)
    line = ("lease", "hire", file, agent.owner, "--access", str(tmp_path / "open.json"))
    done = stage.tenant.run(*line, *stage.tenant._options(line))
    assert done.exit_code == Exit.INPUT and "--checkpoints" in done.output
    assert not agent.seen


def test_watch__access_for_a_lease_that_saves_nothing__refused(
    stage: LeaseStage, agent: Agent, file: str, access: str
) -> None:
    lease = stage.tenant.json("lease", "hire", file, agent.owner)["lease"]
    code, line = stage.tenant.fails(Exit.INPUT, "lease", "watch", lease, "--access", access)
    assert code == Code.INPUT_INVALID and "--access opens the store of --checkpoints" in line
    stage.tenant.json("lease", "close", lease)


def hired(stage: LeaseStage, agent: Agent, file: str, access: str) -> str:
    """A lease whose checkpoints are saved."""
    saves = ("--checkpoints", WANTED, "--access", access)
    return str(stage.tenant.json("lease", "hire", file, agent.owner, *saves)["lease"])


def test_close_with_a_last_checkpoint__asked_for_waited_for_and_then_closed(
    stage: LeaseStage, agent: Agent, file: str, access: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_saves, "_LOOK", 0.01)
    lease = hired(stage, agent, file, access)
    agent.saves = [
        Code.AGENT_NOT_READY,
        AskedSave(4),
        AskedSave(4, checkpoint="20.1"),
        AskedSave(4, done=True, checkpoint="20.2"),
    ]
    closed = stage.tenant.json("lease", "close", lease, "--save")
    assert closed["checkpoint"] == "20.2" and closed["ending"] == "by_tenant"
    asked = [line for line in agent.seen if line.endswith("/checkpoint")]
    assert len(asked) == 4 and agent.bodies[-1] == b'{"save": "4"}'


@pytest.mark.parametrize(
    ("said", "kind", "code", "line"),
    [
        (AskedSave(1, trouble="status 403"), Exit.FAULT, Code.CHECKPOINT_MISSING, "status 403"),
        (AskedSave(1), Exit.UNAVAILABLE, Code.TOO_SLOW, "it is not there after 0 s"),
        (Code.LEASE_OVER, Exit.REFUSED, Code.LEASE_OVER, "has ended"),
    ],
)
def test_close__no_last_checkpoint__the_lease_goes_on(
    stage: LeaseStage,
    agent: Agent,
    file: str,
    access: str,
    said: AskedSave | Code,
    kind: Exit,
    code: Code,
    line: str,
) -> None:
    lease = hired(stage, agent, file, access)
    agent.saves = [said]
    found, told = stage.tenant.fails(kind, "lease", "close", lease, "--save", "--save-within", "0")
    assert found == code and line in told and "is not saved, and goes on" in told
    assert stage.lease(lease).status is LeaseStatus.ACTIVE
    stage.tenant.json("lease", "close", lease)


def test_close__of_a_lease_that_names_no_checkpoints_or_of_another__nothing_is_asked(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    lease = stage.tenant.json("lease", "hire", file, agent.owner)["lease"]
    code, _ = stage.tenant.fails(Exit.REFUSED, "lease", "close", lease, "--save")
    assert code == Code.CHECKPOINTS_NOT_OFFERED
    code, _ = stage.stranger.fails(Exit.REFUSED, "lease", "close", lease, "--save")
    assert code == Code.NOT_TENANT
    line = ("lease", "close", lease, "--endpoint", agent.url)
    assert "--save" in stage.tenant.fails(Exit.INPUT, *line)[1]
    assert not [one for one in agent.seen if one.endswith("/checkpoint")]
    stage.tenant.json("lease", "close", lease)


def test_provider_that_saves_nothing__says_so(
    stage: LeaseStage, agent: Agent, other: Agent, file: str
) -> None:
    agent.offer = OFFER
    found = stage.tenant.json("lease", "offers", file, "--checkpoints", WANTED)["offers"]
    reasons = {one["provider"]: [each["code"] for each in one["refusals"]] for one in found}
    assert reasons == {agent.owner: [Code.CHECKPOINTS_NOT_OFFERED], other.owner: []}
