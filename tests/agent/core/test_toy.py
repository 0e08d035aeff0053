# SPDX-License-Identifier: Apache-2.0
"""A whole agent with a module that nobody outside its folder knows: only a list names it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from provider_agent.app import Agent, database
from provider_agent.checks import startup
from provider_agent.core.module import Module
from provider_agent.modules.all import MODULES, open_store
from provider_agent.settings import compose, load
from scripts.market.ports import free_port
from tests.agent import counter
from tests.agent.api_rig import wait_until
from tests.agent.core.toy import ToyModule, tables
from tests.agent.duty_parts import OPERATOR
from tests.support.anvil import Anvil

# What is asked of Staking is answered with zeros: the operator works for nobody.
ZEROS = "0x60205ff3"
STAKING = "0x" + "5a" * 20


@dataclass
class World:
    agent: Agent
    folder: Path
    anvil: Anvil
    contract: str
    url: str
    status_url: str
    modules: tuple[type[Module], ...]


@pytest.fixture
def world(tmp_path: Path, anvil: Anvil, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(ToyModule, "tables", tables(tmp_path / "steps"), raising=False)
    modules: tuple[type[Module], ...] = (ToyModule, *MODULES)  # the one line
    anvil.rpc("anvil_setCode", STAKING, ZEROS)
    anvil.set_balance(OPERATOR.address, 10**18)
    key, port = tmp_path / "operator.key", free_port()
    key.write_text(OPERATOR.key.hex())
    key.chmod(0o600)
    (tmp_path / "locks").mkdir()
    contract = counter.deploy(anvil)
    file = tmp_path / "provider.toml"
    file.write_text(
        f"""
[chain]
rpc_urls = ["{anvil.url}"]
chain_id = {anvil.chain_id}
staking = "{STAKING}"
confirmations = 0
poll_seconds = 0.05
[operator]
private_key_file = "operator.key"
[agent]
data_dir = "data"
lock_dir = "locks"
[api]
port = {port}
status_port = {free_port()}
[toy]
contract = "{contract}"
"""
    )
    # The section is read like any other, overrides of the environment included.
    settings = load(file, {"TERAPROOF_TOY__WANTED": "2"}, compose(modules))
    agent = Agent(settings, modules=modules)
    failed: list[BaseException] = []

    def live() -> None:
        try:
            agent.run()
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=live)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    status = f"http://127.0.0.1:{settings.api.status_port}"
    yield World(agent, tmp_path, anvil, contract, url, status, modules)
    agent.stop()
    thread.join(timeout=30)
    assert not thread.is_alive() and failed == []


def read(url: str) -> httpx.Response:
    """What is answered there. Nothing is encrypted, and reading all certificates takes long."""
    return httpx.get(url, trust_env=False, verify=False)


def get(url: str) -> httpx.Response | None:
    """The same; None as long as nobody listens."""
    try:
        return read(url)
    except httpx.TransportError:
        return None


def test_module_of_ones_own__one_line_outside_its_folder__all_of_it_is_reached(
    world: World,
) -> None:
    # Settings, an intent for each that is wanted, the contract's events, the table, the route.
    wait_until(
        lambda: (said := get(world.url + "/v1/toys")) is not None and said.json() == {"7": 2},
        seconds=60,
    )
    assert counter.count(world.anvil, world.contract, 7) == 2
    offer = read(world.url + "/v1/provider").json()
    assert offer["toys"] == 1 and offer["operator"] == OPERATOR.address
    assert "/v1/toys" in read(world.url + "/v1/openapi.json").json()["paths"]
    ready = read(world.status_url + "/readyz").json()
    lines = {line["name"]: line["ok"] for line in ready["checks"]}
    assert lines["toys"] and lines["toy"], "its own check, and that its cycles go well"
    assert not lines["registered"]
    scraped = world.status_url + "/metrics"
    wait_until(
        lambda: "teraproof_agent_toy_seen 2.0" in read(scraped).text,
        seconds=30,
    )
    # No jobs without `chain.jobs`, no proofs without `chain.benchmark`: only what is set up runs.
    metrics = read(scraped).text
    assert 'last_success_timestamp{part="toy"}' in metrics and 'part="jobs"' not in metrics
    assert "price_per_hour" not in offer


def test_module_of_ones_own__without_a_running_agent__status_and_checks(world: World) -> None:
    path = database(world.agent._settings)
    wait_until(lambda: path.exists() and get(world.url + "/v1/toys") is not None, seconds=60)
    store = open_store(path, owner=False, modules=world.modules)
    try:
        (table,) = ToyModule.status(store)
    finally:
        store.close()
    assert not isinstance(table, str) and table.title == "Toys"
    found = {finding.name: finding for finding in startup(world.agent._settings, world.modules)}
    assert found["toy"].ok and found["toy"].line.lower() == f"counts at {world.contract}".lower()
    assert found["provider"].warning and "market" not in found
