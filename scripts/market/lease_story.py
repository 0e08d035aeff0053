# SPDX-License-Identifier: Apache-2.0
"""What happens in the demo of leases: a file becomes a service, and its seconds are paid.

The tenant is a stranger with a key file: every line that it types is a command of `teraproof`.
"""

from __future__ import annotations

import json
import os
import ssl

import httpx

from scripts.market import epoch_story, story
from scripts.market.stage import Stage
from scripts.market.typing_tenant import Tenant
from teraproof.amounts import show_tpf
from teraproof.errors import CommandError
from teraproof.market import consents, leases, providers, registry
from teraproof.market.leases import Lease
from teraproof.market.market import Market
from teraproof.protocol.lease_terms import LeaseStatus

USD, TPF = 10**6, 10**18
STAKE = 5_000 * TPF
TERM = "1 hour"
# Dollars an hour, as an owner writes them into provider.toml.
PRICES = {"core": "0.72", "memory": "0.36", "disk": "0.01"}
CERTIFICATE, KEY = "DEMO_CERTIFICATE", "DEMO_KEY"
"""Where the tenant's own certificate and its key are."""
FILE = """version: "2.0"
services:
  web:
    image: {image}
    command: ["httpd", "-f", "-v", "-p", "80", "-h", "/www"]
    expose:
      - port: 80
        as: 80
        to:
          - global: true
profiles:
  compute:
    web:
      resources:
        cpu:
          units: 0.5
        memory:
          size: 64Mi
        storage:
          size: 64Mi
  placement:
    anywhere:
      pricing:
        web:
          denom: uact
          amount: 1500
deployment:
  web:
    anywhere:
      profile: web
      count: 1
"""


def tell(stage: Stage, image: str) -> None:
    """The whole story. CommandError when a balance is not what the rules say."""
    stage.panel(
        "Teraproof: a lease",
        [
            "A tenant rents containers by the second, with a file as Akash has them. The provider",
            "is paid for the seconds that it delivers, and for no other one.",
        ],
    )
    market = story.deploy(stage)
    tenant = _enter(stage, market)
    (stage.home / "deploy.yaml").write_text(FILE.format(image=image))
    paid_before, earned_before = _money(market, tenant.address), _money(market, stage.owner.address)
    lease = _hire(stage, market, tenant)
    _use(stage, market, tenant, lease)
    _die(stage, market, lease)
    _close(stage, market, tenant, lease)
    _settle_up(stage, market, tenant, lease, paid_before, earned_before)


# ---------------------------------------------------------------------- acts


def settings(socket: str) -> dict[str, str]:
    """Of the provider's agent: prices, and where its engine is."""
    prices = {f"TERAPROOF_LEASES__{name.upper()}_PRICE": value for name, value in PRICES.items()}
    return prices | {
        "TERAPROOF_LEASES__DOCKER_SOCKET": socket,
        "TERAPROOF_LEASES__OUTBOUND": "true",  # every file of SDL asks for it
        "TERAPROOF_LEASES__DOWN_SECONDS": "0",
        "TERAPROOF_LEASES__DISK_MB": "1024",
        "TERAPROOF_LEASES__IMAGE_MB": "256",
        "TERAPROOF_LEASES__DATA_HOST": "127.0.0.1",
        "TERAPROOF_LEASES__DATA_PORT": "0",
        "TERAPROOF_LEASES__OUTER_PORTS": "[30000, 30099]",
        "TERAPROOF_BENCHMARK__ENABLED": "false",  # proofs are another demo's matter
    }


def _enter(stage: Stage, market: Market) -> Tenant:
    ui, agent = stage.ui, stage.agent
    ui.act("2  An owner registers, stakes, and rents out what is idle")
    url = stage.chain.pool.endpoints[0].url
    operator = agent.init(url, registry.path_of(stage.home / "deployments", stage.chain.chain_id))
    stage.chain.pool.call("anvil_setBalance", [operator, hex(10**18)])
    stage.ask_for_sandbox()
    agent.start()
    consent = consents.read(agent.consent(stage.owner.address), market, stage.owner.address)
    epoch_story.go_to_boundary(stage, market)
    owner = stage.sender(stage.owner)
    providers.register(market, owner, ui, consent, max_lock_per_order=1_000 * TPF, max_locked=STAKE)
    providers.delegate(market, owner, ui, stage.owner.address, STAKE)
    stage.await_agent()
    stage.tick()
    prices = ", ".join(f"{what} ${price}" for what, price in PRICES.items())
    ui.step(f"its prices an hour, for a core and for a GiB: {prices}")
    return Tenant.arrive(stage, market, 100 * USD)


def _hire(stage: Stage, market: Market, tenant: Tenant) -> Lease:
    stage.ui.act("3  A file becomes a service: one command")
    tenant.types("lease", "offers", "deploy.yaml", "--term", TERM, account=False)
    tenant.types("lease", "hire", "deploy.yaml", stage.owner.address, "--term", TERM)
    (found,) = leases.find_all(market, tenant.address)
    if found.status is not LeaseStatus.ACTIVE or not found.state.confirmed:
        raise CommandError(f"the lease is {found.word}, and not confirmed")
    return found


def _use(stage: Stage, market: Market, tenant: Tenant, lease: Lease) -> None:
    ui, name = stage.ui, leases.short(lease.lease)
    ui.act("4  It answers over TLS; its log and a shell")
    certificate, key = (os.environ[name] for name in (CERTIFICATE, KEY))
    own = ("--certificate", certificate, "--key", key)
    tenant.types("lease", "publish", name, "80", *own)
    said = json.loads(tenant.types("lease", "ports", name, "--json", shown=False))
    url = f"https://127.0.0.1:{said['ports'][0]['outer']}/"
    page = stage.wait("the page", lambda: _page(url, certificate), 30)
    ui.step(f"GET {url}: {page}")
    tenant.types("lease", "logs", name, "--tail", "3")
    tenant.types("lease", "shell", name, "--", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    tenant.types("lease", "status", name)


def _die(stage: Stage, market: Market, lease: Lease) -> None:
    ui = stage.ui
    ui.act("5  The provider's machine loses power: no rent runs, and it comes back")
    stage.agent.kill()
    before = _due(market, lease)
    ui.step("kill -9: the agent is gone, and its heartbeats with it")
    gap = leases.contract(market).max_gap("latest")
    stage.pass_time(4 * gap)
    after = _due(market, lease)
    ui.step(
        f"{4 * gap} s later {after - before} more seconds are due: what one heartbeat is good for"
    )
    if after - before > gap:
        raise CommandError("seconds are due that nobody has delivered")
    stage.agent.start()
    stage.await_agent()
    heart = leases.contract(market)
    last = heart.last_heartbeat(stage.owner.address, "latest")

    def beats() -> bool | None:
        return True if heart.last_heartbeat(stage.owner.address, "latest") > last else None

    stage.wait("a heartbeat", beats, 60)
    ui.step("the agent is back: it found the container running, and its heart beats again")


def _close(stage: Stage, market: Market, tenant: Tenant, lease: Lease) -> None:
    stage.ui.act("6  The tenant closes it, and gets the rest back")
    tenant.types("lease", "close", leases.short(lease.lease))


def _settle_up(
    stage: Stage,
    market: Market,
    tenant: Tenant,
    lease: Lease,
    paid_before: int,
    earned_before: int,
) -> None:
    """Every unit, against the rules."""
    done = leases.current(market, lease.opened)
    if done.closed is None or done.rate is None:
        raise CommandError(f"the lease is {done.word}")
    rent = done.closed.seconds * done.rate
    fee = rent * lease.terms.fee_bps // 10_000
    paid = paid_before - _money(market, tenant.address)
    earned = _money(market, stage.owner.address) - earned_before
    stage.grid(
        "What the lease has moved",
        ["", "dollars", "by the rules"],
        [
            ["the tenant paid", market.show_price(paid), market.show_price(rent)],
            ["the provider earned", market.show_price(earned), market.show_price(rent - fee)],
        ],
    )
    stage.ui.step(f"{done.closed.seconds} seconds were delivered and paid; the rest came back")
    lock = market.staking.lock_of(
        leases.contract(market).address, stage.owner.address, lease.lease, "latest"
    )
    stage.ui.step(f"collateral that is still locked: {show_tpf(lock.amount)}")
    if (paid, earned, lock.amount) != (rent, rent - fee, 0):
        raise CommandError("a balance is not what the rules say; see above")


# ---------------------------------------------------------------------- parts


def _money(market: Market, account: str) -> int:
    """Payment token units of an account: its wallet, and its credit in Leases."""
    credit = leases.contract(market).credit_of(account, "latest")
    return int(market.payment_balance(account)) + int(credit)


def _due(market: Market, lease: Lease) -> int:
    found = leases.account_of(market, leases.current(market, lease.opened))
    if found is None:
        raise CommandError("the lease has ended")
    return found.seconds


def _page(url: str, certificate: str) -> str | None:
    """What a visitor sees that trusts the tenant's certificate alone."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False  # the demo has no name
    try:
        answer = httpx.get(url, verify=context, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return None
    return " ".join(answer.text.split()) if answer.status_code == 200 else None
