# SPDX-License-Identifier: Apache-2.0
"""What happens on the demo's stage: throughput is proven and rewarded, a job is done and paid,
another is not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.deployment import plan, verify
from scripts.deployment.artifacts import ROOT, compile_all
from scripts.deployment.deployer import Deployment
from scripts.market import epoch_story
from scripts.market.stage import Stage
from teraproof.amounts import show_rate, show_tpf
from teraproof.client.jobs import AgentClient
from teraproof.contracts.payment_token import PaymentTokenContract
from teraproof.market import (
    consents,
    credits,
    endings,
    jobs,
    outcomes,
    packages,
    providers,
    registry,
    tenant,
)
from teraproof.market.market import Market, fresh_nonce, open_market, transact
from teraproof.market.ui import QuietUi
from teraproof.protocol.terms import ZERO_WORD, Order, Status

TPF, USD = 10**18, 10**6
STAKE, COLLATERAL = 5_000 * TPF, 100 * TPF
PRICE_START, PRICE_MAX = 1 * USD, 3 * USD
AUCTION, DURATION = 60, 300
_EXAMPLE = ROOT / "examples" / "finetune-digits"

Balances = dict[str, str]


def tell(stage: Stage) -> None:
    """The whole story."""
    stage.panel(
        "Teraproof",
        [
            "A GPU owner stakes tokens, proves its throughput and sells work; a tenant pays into",
            "escrow. Nobody is trusted: contracts on a local chain hold the money.",
        ],
    )
    market = deploy(stage)
    _enter_provider(stage, market)
    speed = epoch_story.prove(stage, market)
    before = _balances(stage, market)
    _paid_job(stage, market, speed // 2)
    paid = _balances(stage, market)
    _show_balances(stage, "Balances after the paid job", before, paid)
    epoch_story.reward(stage, market)
    rewarded = _balances(stage, market)
    _dead_provider(stage, market)
    ended = _balances(stage, market)
    _show_balances(stage, "Balances after the job whose provider died", rewarded, ended)
    stage.grid("Gas", ["step", "gas"], [[name, f"{gas:,}"] for name, gas in stage.gas.items()])


# ---------------------------------------------------------------------- acts


def deploy(stage: Stage) -> Market:
    """Act: the local plan on the stage's chain, TPF for the owner and dollars for the tenant."""
    ui, chain = stage.ui, stage.chain
    ui.act("1  The contracts are deployed")
    with stage.console.status("compiling"):
        artifacts = compile_all()
    wanted = plan.load(plan.find(ROOT / "deployments" / "params", chain.chain_id), artifacts)
    folder = stage.home / "deployments"
    work = Deployment(wanted, artifacts, stage.sender(stage.deployer), folder, ui, None)
    done = work.run()
    checked = verify.verify(wanted, done, artifacts, chain)
    verify.report(checked, QuietUi())
    work.finish()
    ui.step(f"{len(checked)} facts verified against the chain (code, arguments, owners, seal)")
    market = open_market(folder, chain)
    deployer, quiet = stage.sender(stage.deployer), QuietUi()
    give = market.token.transfer(stage.owner.address, 2 * STAKE)
    transact(deployer, quiet, "transfer", market.token, give)
    # Anyone may mint the test dollar.
    dollar = PaymentTokenContract(chain.pool, market.payment.address)
    transact(deployer, quiet, "mint", dollar, dollar.mint(stage.tenant.address, 100 * USD))
    ui.step("the GPU owner holds TPF, the tenant holds test dollars")
    return market


def _enter_provider(stage: Stage, market: Market) -> None:
    ui = stage.ui
    ui.act("2  A GPU owner registers, stakes and starts its agent")
    folder = stage.home / "deployments"
    agent, url = stage.agent, stage.chain.pool.endpoints[0].url
    operator = agent.init(url, registry.path_of(folder, stage.chain.chain_id))
    ui.step("provider-agent init: settings and a new operator key")
    stage.chain.pool.call("anvil_setBalance", [operator, hex(10**18)])
    stage.ask_for_sandbox()
    agent.start()  # its checks take seconds; the owner registers meanwhile
    consent_file = agent.consent(stage.owner.address)
    consent = consents.read(consent_file, market, stage.owner.address)
    epoch_story.go_to_boundary(stage, market)
    owner = stage.sender(stage.owner)
    receipt = providers.register(
        market, owner, ui, consent, max_lock_per_order=1_000 * TPF, max_locked=STAKE
    )
    stage.spend("register", receipt)
    stage.spend("stake", providers.delegate(market, owner, ui, stage.owner.address, STAKE))
    stage.await_agent()
    stage.tick()
    with AgentClient(agent.url, stage.tenant, stage.chain.chain_id) as client:
        offer = client.provider()
    ui.step(
        f"the agent runs as process {agent.process.pid if agent.process else 0} on "
        f"{', '.join(device['name'] for device in offer['devices'])}"
    )
    agent.sandbox |= offer["sandbox"]  # what the running agent offers counts


def _paid_job(stage: Stage, market: Market, min_score: int) -> None:
    ui = stage.ui
    ui.act("4  A tenant posts a job, the agent takes it, runs it and attests the result")
    package = packages.read(_EXAMPLE)
    ui.note(f"only for a provider that has proven {show_rate(min_score)}")
    job = _post(stage, market, package, min_score)
    follow(stage, market, job, Status.ASSIGNED, "an agent to take the job", 60)
    taken = find(market, job)
    assert taken.accepted is not None  # the status says so
    ui.step(f"accepted at {market.show_price(taken.accepted.price)}, collateral locked")
    follow(stage, market, job, Status.ATTESTED, "the result", 120)
    done = find(market, job)
    stage.gas["accept (agent)"] = _gas_of(stage, done.accepted)
    stage.gas["attest (agent)"] = _gas_of(stage, done.attested)
    walls, memory, disk = (stage.agent.sandbox[name] for name in ("walls", "memory", "disk"))
    where = "WITHOUT a sandbox" if walls == "none" else f"in a sandbox ({walls})"
    ui.step(f"run {where}, its memory: {memory}, its disk: {disk}; result attested on chain")
    result = stage.home / "result"
    fetched = tenant.fetch(market, stage.tenant, QuietUi(), done, result)
    ui.step(f"the tenant fetched {len(fetched.files)} files; every byte is the one attested")
    _show_result(stage, fetched.directory, fetched.receipt)
    sender = stage.sender(stage.tenant)
    receipt = endings.approve(market, sender, QuietUi(), done)
    stage.spend("approve", receipt)
    ui.step(f"approve: {receipt.gas_used:,} gas")
    for line in outcomes.lines(market, done.terms, receipt):
        ui.step(line)
    withdrawn = credits.withdraw(market, stage.sender(stage.owner), ui)
    stage.spend("withdraw (provider)", withdrawn.receipts[0])


def _dead_provider(stage: Stage, market: Market) -> None:
    ui = stage.ui
    ui.act("6  Another job, and the provider's machine dies")
    slow = stage.home / "slow-job"
    slow.mkdir(exist_ok=True)
    (slow / "wait.py").write_text("import time\n\nprint('working', flush=True)\ntime.sleep(200)\n")
    (slow / "job.json").write_text(json.dumps(_slow_spec()))
    job = _post(stage, market, packages.read(slow))
    follow(stage, market, job, Status.ASSIGNED, "an agent to take the job", 60)
    stage.agent.kill()
    ui.step("kill -9: agent and job are gone, the collateral is still locked")
    stage.pass_time(DURATION + 5)
    ui.step(f"{DURATION} s later the deadline has passed")
    late = find(market, job)
    sender = stage.sender(stage.tenant)
    receipt = endings.expire(market, sender, QuietUi(), late)
    stage.spend("expire, with seizure", receipt)
    ui.step(f"expire: {receipt.gas_used:,} gas")
    for line in outcomes.lines(market, late.terms, receipt):
        ui.step(line)
    credits.withdraw(market, sender, ui)


def _slow_spec() -> dict[str, Any]:
    return {
        "version": 1,
        "kind": "batch",
        "name": "slow",
        "runtime": "python-ml",
        "command": ["python", "wait.py"],
        "env": {},
        "inputs": ["wait.py"],
        "outputs": ["out"],
        "resources": {"cpus": 1, "memory_mb": 256, "disk_mb": 16, "gpus": 0},
        "timeout_seconds": 220,
        "deterministic": False,
        "network": False,
    }


# ---------------------------------------------------------------------- parts


def _post(stage: Stage, market: Market, package: packages.Package, min_score: int = 0) -> bytes:
    order = Order(
        spec=package.spec.digest(),
        start_price=PRICE_START,
        max_price=PRICE_MAX,
        collateral=COLLATERAL,
        duration=DURATION,
        auction=AUCTION,
        min_stake=STAKE // 2,
        min_score=min_score,
        allow_root=ZERO_WORD,
        nonce=fresh_nonce(),
    )
    placed = jobs.post(market, stage.sender(stage.tenant), stage.ui, order)
    stage.gas.setdefault("post", placed.receipts[-1].gas_used)
    tenant.upload(market, stage.tenant, stage.ui, package, [stage.agent.url])
    return placed.job


def find(market: Market, job: bytes) -> jobs.Job:
    """A job as the chain has it."""
    return jobs.find(market, job.hex())


def follow(
    stage: Stage, market: Market, job: bytes, wanted: Status, what: str, seconds: float
) -> None:
    """Wait for a status, or one beyond it."""

    def look() -> bool | None:
        status = Status(market.jobs.status(job, "latest"))
        return True if status >= wanted else None

    stage.wait(what, look, seconds)


def _gas_of(stage: Stage, event: Any) -> int:
    receipt = stage.chain.pool.receipt(event.at.tx_hash)
    return 0 if receipt is None else receipt.gas_used


def _balances(stage: Stage, market: Market) -> Balances:
    """What each of the two has, and where."""
    found: Balances = {}
    for name, who in (("tenant", stage.tenant), ("GPU owner", stage.owner)):
        credit = credits.credits_of(market, who.address)
        found[f"{name}: wallet, dollars"] = market.show_price(market.payment_balance(who.address))
        found[f"{name}: credit in Jobs"] = market.show_price(credit.payment)
        found[f"{name}: wallet, TPF"] = show_tpf(market.token_balance(who.address))
        stake = market.staking.owner_assets(who.address, "latest")
        found[f"{name}: own stake"] = show_tpf(stake)
    escrow = market.payment_balance(market.jobs.address)
    found["held by the Jobs contract"] = market.show_price(escrow)
    return found


def _show_balances(stage: Stage, title: str, before: Balances, after: Balances) -> None:
    rows = [[name, before[name], now] for name, now in after.items() if before[name] != now]
    stage.grid(title, ["", "before", "after"], rows)


def _show_result(stage: Stage, directory: Path, receipt_file: Path) -> None:
    metrics = json.loads((directory / "out" / "metrics.json").read_text())
    receipt = json.loads(receipt_file.read_text())
    curve = metrics["correct_by_epoch"]
    bars = "".join("▁▂▃▄▅▆▇█"[round(7 * value / metrics["held_out"])] for value in curve)
    stage.panel(
        "Result: a digit classifier, fine-tuned",
        [
            f"metric    {metrics['metric']}",
            f"before    {metrics['accuracy_before']:.1%}",
            f"after     {metrics['accuracy_after']:.1%}",
            f"by epoch  {bars}",
            f"receipt   {receipt['cpu_ms'] / 1000:.1f} s of CPU, "
            f"{receipt['peak_memory_bytes'] / 2**20:.0f} MiB, exit code {receipt['exit_code']}",
        ],
    )
