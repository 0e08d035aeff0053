# SPDX-License-Identifier: Apache-2.0
"""A tenant, an owner and a real agent process: consent, post, upload, fetch, hire."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from scripts.deployment.artifacts import Artifact
from scripts.deployment.plan import Plan
from scripts.market.ports import free_port
from teraproof.cli.main import main
from teraproof.client.listing import ask
from teraproof.epochs import rules_of
from teraproof.errors import CommandError, Declined, LocalError
from teraproof.market import (
    answers,
    consents,
    directory,
    endings,
    feasible,
    hiring,
    jobs,
    proofs,
    providers,
    rewards,
    tenant,
    tokens,
    watch,
)
from teraproof.market.funds import Funds
from teraproof.market.market import fresh_nonce, open_market
from teraproof.market.ui import QuietUi
from teraproof.pog.schedule import Stage
from teraproof.protocol.errors import Code, Exit
from teraproof.protocol.outcome import Outcome
from teraproof.protocol.terms import ZERO_WORD, Order, Status
from tests.scripts.actors import chain_of, deploy, sender_of
from tests.scripts.scene import Scene
from tests.support.anvil import ROOT, Anvil
from tests.support.codes import fails_as
from tests.support.runs import accepted

TPF, USD = 10**18, 10**6
PYTHON = ROOT / ".venv-agent" / "bin" / "python"
RUNTIME = ROOT / ".venv-runtime"


@pytest.fixture(scope="module")
def scene(
    anvil: Anvil,
    local_plan: Plan,
    artifacts: dict[str, Artifact],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("scene")
    deployer, owner, renter, stranger = (sender_of(anvil, index) for index in range(4))
    deploy(local_plan, artifacts, deployer, home / "deployments")
    market = open_market(home / "deployments", chain_of(anvil))
    ui = QuietUi()
    tokens.send_stake(market, deployer, ui, owner.address, 1_000 * TPF)
    tokens.mint_payment(market, renter, ui, renter.address, 100 * USD)

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    config = home / "agent" / "provider.toml"
    config.parent.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "TERAPROOF_CHAIN__CONFIRMATIONS": "0",
        "TERAPROOF_CHAIN__POLL_SECONDS": "0.2",
        "TERAPROOF_CHAIN__CLOCK_MARGIN_SECONDS": "1000000000",
        "TERAPROOF_AGENT__LOCK_DIR": str(config.parent),
        "TERAPROOF_RUNNER__SANDBOX": "none",
        "TERAPROOF_RUNNER__ALLOW_UNLIMITED": accepted("none"),
        "TERAPROOF_RUNNER__RUNTIMES": json.dumps({"python-ml": str(RUNTIME)}),
    }
    module = [str(PYTHON), "-m", "provider_agent"]

    def agent(*arguments: str) -> None:
        command = [*module, *arguments, "--config", str(config)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)

    deployment = str(home / "deployments" / f"{anvil.chain_id}.json")
    agent("init", "--rpc-url", anvil.url, "--deployment", deployment, "--port", str(port))
    consent = home / "consent.json"
    agent("consent", "--owner", owner.address, "--output", str(consent))
    agreed = consents.read(consent, market, owner.address)
    anvil.set_balance(agreed.message.operator, 10**18)
    providers.register(
        market, owner, ui, agreed, max_lock_per_order=100 * TPF, max_locked=500 * TPF
    )
    providers.delegate(market, owner, ui, owner.address, 900 * TPF)

    with (home / "agent.log").open("wb") as log:
        command = [*module, "run", "--config", str(config)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(process, endpoint, home / "agent.log")
        yield Scene(anvil, market, owner, renter, stranger, endpoint, home, ui)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-2_000:]
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(endpoint + "/readyz", trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-2_000:])


def test_post__agent_delivers__result_is_fetched_and_checked(scene: Scene) -> None:
    package = scene.package("posted", "forty-two")
    placed = scene.post(package)
    # Anybody may announce anything: a bad endpoint keeps the inputs from nobody else.
    urls = ["gopher://x", "http://[::1", scene.endpoint]
    sent = tenant.upload(scene.market, scene.tenant.signer, scene.ui, package, urls, wait=30)
    assert sent.endpoints == (scene.endpoint,)
    opened = jobs.find(scene.market, placed.job.hex())
    job, outcome = watch.wait(
        scene.market, scene.ui, opened, signer=scene.tenant.signer, seconds=60
    )
    assert (job.status, outcome) == (Status.ATTESTED, Outcome.SUCCEEDED)
    _, unknown = watch.wait(scene.market, scene.ui, opened)
    assert unknown is None  # the chain alone does not say so
    target = scene.home / "result"
    with pytest.raises(CommandError, match="results are given to the requester only"):
        tenant.fetch(scene.market, scene.stranger.signer, scene.ui, job, target)
    fetched = tenant.fetch(scene.market, scene.tenant.signer, scene.ui, job, target)
    assert (job.outcome, fetched.ending.outcome) == ("delivered", Outcome.SUCCEEDED)
    assert (target / "out" / "answer.txt").read_text() == "forty-two"
    assert fetched.receipt.exists()
    endings.approve(scene.market, scene.tenant, scene.ui, job)
    scene.wait(placed, Status.SETTLED)


@pytest.mark.parametrize(
    ("name", "ending", "wanted", "said"),
    [
        ("boom", "raise SystemExit('boom: \\x1b[31m my own bug')", "failed (exit code 1)", "boom"),
        ("slow", "print('here', flush=True)\ntime.sleep(60)", "timed out", "here"),
        ("nothing", "import shutil; shutil.rmtree('out')", "failed (outputs)", None),
    ],
)
def test_fetch__job_failed__saved_log_shown_and_no_success(
    scene: Scene, name: str, ending: str, wanted: str, said: str | None
) -> None:
    market, signer, ui = scene.market, scene.tenant.signer, scene.ui
    package = scene.package(name, "x", ending=ending, timeout=2 if name == "slow" else 30)
    placed = scene.post(package)
    tenant.upload(market, signer, ui, package, [scene.endpoint], wait=30)
    lines: list[str] = []
    opened = jobs.find(market, placed.job.hex())
    url = scene.endpoint
    watch.log(market, signer, opened, url, lines.append, follow=True)
    assert said is None or any(line.startswith(said) for line in lines)
    assert not any("\x1b" in line for line in lines)
    with fails_as(Code.NOT_REQUESTER):
        watch.log(market, scene.stranger.signer, opened, url, lines.append)
    with fails_as(Code.JOB_FAILED):
        watch.wait(market, ui, opened, signer=signer, seconds=60)
    job = scene.wait(placed, Status.ATTESTED)
    # Which outputs are missing stands in the result, so its digest alone does not show it.
    on_chain = "delivered" if name == "nothing" else wanted
    assert job.outcome == on_chain
    jobs.show(market, job, ui)
    assert any(on_chain in line for line in ui.lines[-20:])
    target = scene.home / f"{name}-result"
    ui.lines.clear()
    with fails_as(Code.JOB_FAILED) as caught:
        tenant.fetch(market, signer, ui, job, target)
    assert (caught.value.code.exit, wanted in str(caught.value)) == (5, True)
    assert json.loads((target / "failure.json").read_text())["exit_code"] != 0 or said is None
    assert target.with_name(target.name + ".receipt.json").exists()
    log = target.with_name(target.name + ".log")
    if said is not None:
        assert said in log.read_text()
        assert any(line.startswith("    " + said) for line in ui.lines)
    assert not any("\x1b" in line for line in ui.lines)
    endings.approve(market, scene.tenant, ui, job)
    settled = scene.wait(placed, Status.SETTLED)
    assert settled.outcome == on_chain
    jobs.show_list(market, [settled], ui)
    assert on_chain in ui.lines[-1]


def test_hire__quote_of_the_agent__delivered(scene: Scene) -> None:
    package = scene.package("hired", "seven")
    owner, url = tenant.announced(scene.market, None)
    assert (owner, url) == (scene.owner.address, scene.endpoint)
    quote, signature = tenant.quote(scene.market, scene.tenant.signer, package, url, owner)
    with pytest.raises(CommandError, match="quotes for another provider"):
        tenant.check_operator(scene.market, quote, url, scene.stranger.address)
    unknown = dataclasses.replace(quote, operator=scene.stranger.address)
    with pytest.raises(CommandError, match="quotes for no registered provider"):
        tenant.check_operator(scene.market, unknown, url, None)
    assert quote.requester == scene.tenant.address
    known = providers.read_all(scene.market)
    (verdict,) = feasible.ask_providers(scene.market, scene.ui, known, package.spec)
    assert verdict.price == quote.price  # what it publishes is what it signs
    placed = jobs.hire(scene.market, scene.tenant, scene.ui, quote, signature)
    tenant.upload(scene.market, scene.tenant.signer, scene.ui, package, [url], wait=30)
    scene.wait(placed, Status.ATTESTED)


class Reluctant(QuietUi):
    """Declines whatever it is asked."""

    def ask(self, question: str) -> None:
        super().ask(question)
        raise Declined


def test_hire__declined__nobody_was_bound_and_the_next_can_hire_at_once(scene: Scene) -> None:
    package = scene.package("declined", "eight")
    wanted = hiring.Wanted(package)

    def free() -> int:
        listing = ask(scene.endpoint, scene.market.reach).listing
        assert listing is not None
        return listing.free_slots

    scene.until(free, 60)
    before, ui = free(), Reluctant()
    for _ in range(before + 1):
        with pytest.raises(Declined):
            hiring.hire(scene.market, scene.tenant, ui, wanted, Funds.AUTO)
    assert "in escrow" in ui.lines[-1] and any("time to deliver" in line for line in ui.lines)
    assert free() == before
    said = len(scene.ui.lines)
    hired = hiring.hire(scene.market, scene.tenant, scene.ui, wanted, Funds.AUTO)
    questions = [line for line in scene.ui.lines[said:] if line.startswith("Put ")]
    assert len(questions) == 1  # one question, and it came first
    job = hired.placed.job
    tenant.upload(scene.market, scene.tenant.signer, scene.ui, package, [hired.url], job=job)
    assert answers.tell(scene.market, scene.ui, job) == scene.owner.address
    assert "has taken job" in scene.ui.lines[-1] and "delivers by" in scene.ui.lines[-1]
    scene.wait(hired.placed, Status.ATTESTED)


def test_post__nobody_answers__told_until_when_and_what_to_do(scene: Scene) -> None:
    package = scene.package("unanswered", "one")
    order = Order(
        package.spec.digest(), USD, USD, 0, 300, 0, 5_000 * TPF, 0, ZERO_WORD, fresh_nonce()
    )
    placed = jobs.post(scene.market, scene.tenant, scene.ui, order)
    assert answers.tell(scene.market, scene.ui, placed.job, {"http://x": "no"}) is None
    said = scene.ui.lines[-1]
    assert "nobody has taken it yet (1 provider would not, see above)" in said
    for part in ("a provider can until", "job wait 0x", "job cancel 0x"):
        assert part in said
    opened = jobs.find(scene.market, placed.job.hex())
    endings.cancel(scene.market, scene.tenant, scene.ui, opened)


def test_feasible__agent_says_what_it_would_do__before_money_moves(scene: Scene) -> None:
    market, ui = scene.market, scene.ui
    known = providers.read_all(market)
    good = scene.package("good", "one")
    (verdict,) = feasible.ask_providers(market, ui, known, good.spec)
    assert verdict.takes_it and verdict.price is not None
    (verdict,) = feasible.ask_providers(
        market, ui, known, scene.package("bad", "one", runtime="abacus").spec
    )
    assert [refusal.code for refusal in verdict.refusals] == [Code.RUNTIME_NOT_OFFERED]
    (listed,) = directory.read(market, ui)
    assert listed.online == "yes" and listed.listing is not None
    assert directory.chosen([listed], runtime="python-ml") == [listed]
    assert directory.chosen([listed], runtime="abacus") == []
    assert directory.to_json(listed)["offer"]["runtimes"] == ["python-ml"]


def test_upload__agent_would_not_take_the_job__told_at_once(scene: Scene) -> None:
    strange = scene.package("strange", "one", runtime="abacus")
    placed = scene.post(strange)
    begun = time.monotonic()
    with pytest.raises(CommandError, match="no agent has the inputs"):
        tenant.upload(
            scene.market, scene.tenant.signer, scene.ui, strange, [scene.endpoint], 60, placed.job
        )
    assert time.monotonic() - begun < 30
    assert "runtime abacus is not offered here" in scene.ui.lines[-1]
    endings.cancel(scene.market, scene.tenant, scene.ui, jobs.find(scene.market, placed.job.hex()))
    # A job that the agent can run, but on a stake that nobody has.
    package = scene.package("picky", "two")
    order = dataclasses.replace(
        placed.terms.order, spec=package.spec.digest(), min_stake=5_000 * TPF, nonce=fresh_nonce()
    )
    placed = jobs.post(scene.market, scene.tenant, scene.ui, order)
    with pytest.raises(CommandError, match="no agent has the inputs"):
        tenant.upload(
            scene.market, scene.tenant.signer, scene.ui, package, [scene.endpoint], 5, placed.job
        )
    assert "would not take the job: asks for a stake of" in scene.ui.lines[-1]


def test_proof__of_the_agent__decides_who_is_hired_and_is_rewarded(scene: Scene) -> None:
    """The agent proves by itself. Time goes on with blocks alone, so it waits for rounds."""
    market, owner = scene.market, scene.owner.address
    rules = rules_of(market.benchmark, "latest")

    def goes_on() -> bool:
        epoch = proofs.current(market, rules)
        proof = market.benchmark.proof_of(owner, "latest")
        waits = epoch.stage is Stage.WINDOW and not (proof.rounds and proof.epoch == epoch.number)
        if not waits:
            scene.anvil.mine(1 if epoch.record.opened_at else 3)
        return True

    scene.anvil.rpc("anvil_setBlockTimestampInterval", 1)
    try:
        speed = scene.until(lambda: goes_on() and providers.read(market, owner).score, 180)
        (epoch,) = proofs.of_provider(market, owner)
        proofs.show(market, scene.ui, epoch)
        assert f"{rules.samples} of {rules.samples} | proven" in scene.ui.lines[-1]

        package = scene.package("fast", "nine")
        for wanted, able in ((speed + 1, False), (speed, True)):
            known = [providers.read(market, owner)]
            (verdict,) = feasible.ask_providers(
                market, scene.ui, known, package.spec, min_score=wanted
            )
            lacking = Code.SCORE_MISSING in {one.code for one in verdict.refusals}
            assert lacking is not able
        placed = scene.post(package, min_score=speed)
        tenant.upload(market, scene.tenant.signer, scene.ui, package, [scene.endpoint], wait=30)
        scene.wait(placed, Status.ATTESTED)

        ends_at = market.benchmark.epoch_of(epoch, "latest").ends_at
        scene.anvil.mine(max(1, ends_at - market.now()))

        def paid() -> rewards.Reward | None:
            (found,) = [item for item in rewards.of(market, owner) if item.epoch == epoch]
            return found if found.paid else None

        assert scene.until(paid, 60).amount == market.emissions.emission(epoch, "latest")
    finally:
        scene.anvil.rpc("anvil_removeBlockTimestampInterval")


def test_commands__a_tenants_job_from_check_to_payment(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person types, without Ape: the same agent, and the tenant's key in a file."""
    key = scene.home / "tenant.key"
    key.write_text(scene.anvil.accounts[2].key.hex())
    key.chmod(0o600)
    for name, value in {
        "TERAPROOF_RPC_URL": scene.anvil.url,
        "TERAPROOF_DEPLOYMENTS": str(scene.home / "deployments"),
        "TERAPROOF_KEY_FILE": str(key),
        "XDG_STATE_HOME": str(scene.home / "state"),
    }.items():
        monkeypatch.setenv(name, value)

    def run(line: str, code: int = 0) -> dict[str, Any]:
        shown = CliRunner().invoke(main, [*line.split(), "--json"], catch_exceptions=False)
        assert shown.exit_code == code, shown.output
        return dict(json.loads(shown.output[shown.output.index("{") :]))

    package = scene.package("typed", "eleven", ending="print('hello', flush=True)").directory
    assert run(f"job check {package}")["faults"] == []
    (listed,) = run("provider list --runtime python-ml")["providers"]
    assert listed["online"] and listed["offer"]["slots"] >= 1
    assert run("provider list --gpu h200")["providers"] == []

    strange = scene.package("odd", "x", runtime="abacus").directory
    refused = run(f"job post {strange} --price 1 --yes", Exit.REFUSED)["error"]
    assert refused["code"] == Code.NOBODY_TAKES_IT
    (why,) = refused["details"]["providers"]
    assert why["refusals"][0]["code"] == Code.RUNTIME_NOT_OFFERED
    assert run(f"job hire {strange} --yes", Exit.REFUSED)["error"]["code"] == Code.NOBODY_TAKES_IT

    posted = run(f"job post {package} --price 1 --yes")
    # The offer starts at what the provider asks, not at the most that the tenant would pay.
    assert int(posted["start_price"]) == int(posted["providers"][0]["price"]) < 1 * USD
    job = posted["job"]
    ended = run(f"job wait {job} --timeout 60")
    assert (ended["status"], ended["outcome"], ended["name"]) == ("attested", "succeeded", "typed")
    assert run(f"job logs {job} --follow")["lines"] == ["hello"]
    (scene.home / "a-file").write_text("mine")
    for place in ("a-file", "a-file/below/it", "n" * 300):
        wrong = run(f"job fetch {job} --output {scene.home / place}", Exit.INPUT)["error"]
        assert wrong["code"] == "input_invalid" and "--output: " in wrong["message"]
    fetched = run(f"job fetch {job} --output {scene.home / 'typed-result'}")
    assert fetched["outcome"] == "succeeded"
    paid = run(f"job approve {job} --yes")
    assert [one["what"] for one in paid["transactions"]] == ["approve"]
    assert int(run(f"job status {job}")["paid"]) < 1 * USD

    hired = run(f"job hire {package} --yes")
    assert (hired["endpoint"], hired["taken_by"]) == (scene.endpoint, scene.owner.address)
    run(f"job wait {hired['job']} --timeout 60")

    # One account, one agent: all of these commands have signed in once.
    (kept,) = (scene.home / "state" / "teraproof" / "sessions").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    began = kept.stat().st_mtime_ns
    run(f"job logs {hired['job']}")
    assert kept.stat().st_mtime_ns == began


def test_upload__nobody_there__one_line(scene: Scene) -> None:
    package = scene.package("unheard", "one")
    with pytest.raises(CommandError, match="no agent has the inputs"):
        tenant.upload(
            scene.market, scene.tenant.signer, scene.ui, package, ["http://127.0.0.1:1029"], wait=1
        )
    with pytest.raises(LocalError, match=r"127\.0\.0\.1:1029: no connection"):
        tenant.quote(scene.market, scene.tenant.signer, package, "http://127.0.0.1:1029")
    with pytest.raises(CommandError, match="announces no endpoint; pass --endpoint"):
        tenant.announced(scene.market, scene.stranger.address)
