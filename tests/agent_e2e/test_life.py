# SPDX-License-Identifier: Apache-2.0
"""What can come between a job and its end: restarts, reboots, keys, rivals, tenants, bad jobs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from teraproof.deals import origin_of
from teraproof.errors import LocalError
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Status, assignment_of
from tests.agent.faulty_rpc import FaultyRpc, Mode
from tests.agent_e2e.chain import DAY, USD, Deployment, Failed
from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.world import AGENT_PYTHON, QUICK, Job, World

SLOW = "import time; time.sleep(3)\n" + QUICK
ENDLESS = "import time; time.sleep(600)\n"


@pytest.fixture
def world(tmp_path: Path, busy_market: Deployment) -> Iterator[World]:
    """A provider whose agent has not been started."""
    made = World(tmp_path, busy_market).set_up()
    yield made
    made.close()


def supervisors(world: World) -> list[int]:
    """Process ids of the supervisors that the agent's runs have now."""
    found = []
    for state in (world.directory / "agent" / "data" / "runs").glob("*/state.json"):
        found.append(int(json.loads(state.read_text())["supervisor"][0]))
    return found


def running(world: World) -> int:
    """Wait for a run; the process id of its supervisor."""
    found = world.until(lambda: supervisors(world) or None, "run", 60)
    return int(found[0])


def start_job(world: World, nursery: Nursery, script: str, **changes: object) -> Job:
    """A job on its way in a fresh agent."""
    world.fork_agent(nursery)
    directory = world.job_directory("job", script)
    spec = world.spec(directory, **changes)
    job = world.post(spec, directory, duration=20 * DAY, auction=10 * DAY)
    world.until(job.try_upload, "upload", 60)
    return job


# ---------------------------------------------------------------------- restarts


def test_sigterm_in_a_run__next_agent_takes_the_same_run_over(
    world: World, nursery: Nursery
) -> None:
    job = start_job(world, nursery, SLOW)
    supervisor = running(world)
    assert world.stop_agent() == 0
    assert "stopped; 1 run goes on under its supervisor" in world.log()
    os.kill(supervisor, 0)

    world.fork_agent(nursery)
    world.until(lambda: world.log().count("listens on") == 2, "start")
    assert supervisors(world) in ([supervisor], [])
    world.settled(job)
    world.until(lambda: "paid" in world.status(), "see the pay")
    assert f"0x{job.id.hex()[:12]}" in world.status()
    assert "tUSD" in world.status()

    assert world.rows("SELECT run_id FROM runs") == [(f"{job.id.hex()}-1-0",)]
    world.check_clean(accept=1, attest=1, finalize=1)


def test_reboot_in_a_run__job_is_run_again(world: World, nursery: Nursery) -> None:
    job = start_job(world, nursery, SLOW)
    supervisor = running(world)
    world.kill_agent()
    os.kill(supervisor, signal.SIGKILL)
    world.until(lambda: not world.left_processes(), "end of the sandbox")

    world.fork_agent(nursery)
    world.settled(job)

    assert world.rows("SELECT run_id, state FROM runs ORDER BY run_id") == [
        (f"{job.id.hex()}-1-0", "failed"),
        (f"{job.id.hex()}-2-0", "collected"),
    ]
    world.check_clean(accept=1, attest=1, finalize=1)


def test_second_agent_on_the_key__refuses_to_start(world: World, nursery: Nursery) -> None:
    world.fork_agent(nursery)
    world.until(lambda: "listens on" in world.log(), "start")

    second = subprocess.run(
        [str(AGENT_PYTHON), "-m", "provider_agent", "run", "--skip-checks",
         "--config", str(world.configure())],
        env={
            "PATH": os.environ["PATH"],
            "TERAPROOF_AGENT__DATA_DIR": str(world.directory / "other"),
            "TERAPROOF_API__PORT": "0",
        },
        cwd=world.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip

    assert second.returncode == 1
    assert len(second.stderr.splitlines()) == 1
    assert second.stderr.startswith("error: another agent on this machine uses the key")
    world.check_clean()


def test_operator_replaced_in_a_job__new_agent_finishes_it(world: World, nursery: Nursery) -> None:
    job = start_job(world, nursery, SLOW)
    running(world)
    old = world.operator
    world.operator = Account.create()
    world.anvil.set_balance(world.operator.address, 10**20)
    domain = messages.Domain(world.anvil.chain_id, world.staking.address)
    consent = messages.OperatorConsent(
        world.owner.address,
        world.operator.address,
        int(world.staking.read("consent_nonce", world.operator.address)),
        2**63,
    )
    signature = messages.sign(domain, consent, world.operator)
    world.staking.send(
        world.owner,
        "set_operator",
        world.operator.address,
        consent.nonce,
        consent.expires,
        signature,
    )

    # The old agent can do nothing for the job any more, and keeps nothing alive for it.
    world.until(lambda: not world.left_processes(), "end of the run", 60)
    assert world.stop_agent() == 0
    (world.directory / "agent").rename(world.directory / "old-agent")
    world.fork_agent(nursery)
    world.until(job.try_upload, "upload", 60)
    world.settled(job)

    assert world.deployment.sent_by(old.address) == {("accept", True): 1}
    world.check_clean(attest=1, finalize=1)


# ---------------------------------------------------------------------- the market


def test_tenant_cancels_first__nothing_is_left(world: World, nursery: Nursery) -> None:
    job = world.quick_job()
    world.jobs.send(world.tenant, "cancel", job.terms.abi_tuple())
    other = world.quick_job()
    world.fork_agent(nursery)
    world.until(other.try_upload, "upload", 60)
    world.settled(other)

    assert job.status is Status.CANCELLED
    assert world.jobs.read("credit_of", world.tenant.address) >= 2 * USD
    world.check_clean(accept=1, attest=1, finalize=1)


def test_another_provider_is_faster__agent_does_the_next_job(
    world: World, busy_market: Deployment, nursery: Nursery
) -> None:
    rival = World(world.directory / "rival", busy_market).set_up()
    with FaultyRpc(world.anvil.url) as proxy:
        world.rpc_urls = [proxy.url]
        held_up = proxy.fault(Mode.DROP, "eth_sendRawTransaction")
        world.fork_agent(nursery)
        job = world.quick_job()
        world.until(job.try_upload, "upload", 60)
        world.until(lambda: held_up.applied > 0, "acceptance", 60)
        rival.jobs.send(rival.operator, "accept", job.terms.abi_tuple())
        proxy.clear()
        following = world.quick_job()
        world.until(following.try_upload, "upload", 60)
        following.wait(Status.SETTLED, seconds=90)

        taken = assignment_of(world.jobs.read("state", job.id))
        assert taken is not None and taken.provider == rival.owner.address
        assert world.rows(f"SELECT 1 FROM runs WHERE job_id = x'{job.id.hex()}'") == []
        assert world.deployment.sent_by(world.operator.address) == {
            ("accept", False): 1,  # too late
            ("accept", True): 1,
            ("attest", True): 1,
            ("finalize", True): 1,
        }, world.log()
        assert world.stop_agent() == 0
        assert world.left_processes() == []


def test_uploads_never_complete__job_is_not_accepted(world: World, nursery: Nursery) -> None:
    world.fork_agent(nursery)
    directory = world.job_directory("job", QUICK)
    (directory / "data.txt").write_text("numbers")
    job = world.post(world.spec(directory), directory, auction=10, duration=20 * DAY)
    client = world.client()
    client.upload_spec(job.spec)
    world.until(
        lambda: "waiting for 2 inputs" in str(world.rows("SELECT note FROM jobs")), "look", 60
    )
    # OPEN_MARGIN is an hour of the chain's time.
    world.anvil.increase_time(4000)
    world.until(lambda: "no longer open" in str(world.rows("SELECT note FROM jobs")), "end", 60)
    world.jobs.send(world.deployment.stranger, "cancel", job.terms.abi_tuple())

    assert job.status is Status.CANCELLED
    assert world.jobs.read("credit_of", world.tenant.address) == 2 * USD
    world.check_clean()


def test_quote_and_hire__job_is_run_and_paid(world: World, nursery: Nursery) -> None:
    # The chain's clock runs far ahead of the agent's here.
    world.settings = {"TERAPROOF_JOBS__QUOTE_SECONDS": "86400"}
    world.fork_agent(nursery)
    domain = messages.Domain(world.anvil.chain_id, world.jobs.address)
    directory = world.job_directory("job", QUICK)
    spec = world.spec(directory, timeout_seconds=3600)
    client = world.client()
    world.until(lambda: "listens on" in world.log(), "start")
    world.until(lambda: client.provider()["owner"], "look at the chain")
    client.upload_spec(spec)
    with pytest.raises(LocalError) as caught:
        client.quote(spec, domain)
    assert caught.value.code is Code.INPUTS_MISSING
    client.upload(spec, directory)
    quote, signature = client.quote(spec, domain)
    assert quote.price == 1 * USD  # an hour at one token

    values = tuple(getattr(quote, name) for name, _ in messages.Quote.FIELDS)
    receipt = world.jobs.send(world.tenant, "hire", values, signature)
    job = Job(world, world.posted(receipt), spec, directory)
    assert job.status is Status.ASSIGNED
    world.settled(job)

    with pytest.raises(Failed):
        world.jobs.send(world.tenant, "hire", values, signature)
    world.check_clean(attest=1, finalize=1)


# ---------------------------------------------------------------------- jobs that fail


@pytest.mark.parametrize(
    ("script", "changes", "expected"),
    [
        ("raise SystemExit(3)", {}, {"exit_code": 3, "reason": "exited"}),
        (ENDLESS, {"timeout_seconds": 1}, {"exit_code": None, "reason": "timeout"}),
        ("x = bytearray(1 << 30)", {"resources": {"cpus": 1, "memory_mb": 64, "disk_mb": 8,
          "gpus": 0}}, None),
    ],
    ids=["exit code", "timeout", "memory"],
)  # fmt: skip
def test_job_fails_by_its_own_fault__is_attested_and_paid(
    world: World,
    nursery: Nursery,
    tmp_path: Path,
    script: str,
    changes: dict[str, object],
    expected: dict[str, object] | None,
) -> None:
    job = start_job(world, nursery, script, **changes)
    world.settled(job)

    event = job.attested()
    out = tmp_path / "result"
    world.client().fetch_result(origin_of(event), out, event.result)
    assert [path.name for path in out.iterdir()] == ["failure.json"]
    failure = json.loads((out / "failure.json").read_text())
    if expected is None:
        assert failure["reason"] in ("memory", "exited")
        assert failure["exit_code"] != 0
    else:
        assert failure == expected
    receipt = world.client().receipt(job.id, event.receipt)
    assert hashlib.sha256(receipt).digest() == event.receipt
    price = job.terms.price_at(event.assigned_at)
    assert world.jobs.read("credit_of", world.owner.address) == price - price // 100
    world.check_clean(accept=1, attest=1, finalize=1)


HOSTILE = """\
import os, pathlib, socket, subprocess, sys
caught = []
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=2)
    caught.append("network")
except OSError:
    pass
for place in {secrets!r}:
    try:
        pathlib.Path(place).read_bytes()
        caught.append(place)
    except OSError:
        pass
for process in pathlib.Path("/proc").iterdir():
    try:
        if process.name.isdigit() and b"provider" in (process / "cmdline").read_bytes():
            caught.append("agent")
    except OSError:
        pass
print("caught", caught, flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def test_hostile_job__is_contained_and_the_next_one_runs(
    world: World, nursery: Nursery, tmp_path: Path
) -> None:
    world.configure()
    home = world.directory / "agent"
    secrets = [str(home / "operator.key"), str(home / "provider.toml"),
               str(home / "data" / "agent.sqlite")]  # fmt: skip
    script = HOSTILE.format(port=world.api_port, secrets=secrets)
    job = start_job(world, nursery, script, timeout_seconds=20)
    world.settled(job, seconds=120)

    log = world.client().logs(job.id)["text"]
    assert "caught []" in log, log
    out = tmp_path / "result"
    event = job.attested()
    world.client().fetch_result(origin_of(event), out, event.result)
    failure = json.loads((out / "failure.json").read_text())
    assert failure["reason"] in ("pids", "timeout", "exited")
    following = world.quick_job()
    world.until(following.try_upload, "upload", 60)
    world.settled(following)
    world.check_clean(accept=2, attest=2, finalize=2)
