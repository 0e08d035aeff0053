# SPDX-License-Identifier: Apache-2.0
"""`teraproof models`, `gateway` and `channel` with an agent's process, on a local chain.

The tenant's programs know the market's deployment file and nothing else: they find the provider by
the chain, pay it, and take back what is left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from scripts.market.ports import free_port
from teraproof.gateway.settings import load
from teraproof.protocol.errors import Exit
from tests.agent_e2e.chain import USD, ProofTerms, deployment, until
from tests.agent_e2e.inference_world import MODEL, InferenceWorld
from tests.agent_e2e.registries import save_registry
from tests.support.anvil import ROOT, Anvil
from tests.support.model_server import running

MESSAGES: Any = [{"role": "user", "content": "hello"}]


@dataclass
class Tenant:
    """Programs of a tenant, in a folder of its own."""

    world: InferenceWorld
    home: Path

    def __post_init__(self) -> None:
        world, found = self.world, self.world.deployment
        assert found.benchmark is not None and found.emissions is not None
        save_registry(self.home, found)
        key = self.home / "tenant.key"
        key.write_text(world.tenant.key.hex())
        key.chmod(0o600)
        self.port = free_port()

    def start(self, *words: str, signs: bool = True) -> subprocess.Popen[str]:
        """A command, under way."""
        account = ["--key-file", "tenant.key", "--yes"] if signs else []
        return subprocess.Popen(
            [sys.executable, "-m", "teraproof", *words, *account],
            cwd=self.home,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TERAPROOF_RPC_URL": self.world.anvil.url,
                "TERAPROOF_DEPLOYMENTS": str(self.home),
                "XDG_STATE_HOME": str(self.home / "state"),
                "COLUMNS": "250",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def types(self, *words: str, code: int = 0, signs: bool = True) -> str:
        """What a command prints that ends with `code`."""
        shown, _ = (started := self.start(*words, signs=signs)).communicate(timeout=300)
        assert started.returncode == code, shown
        return shown

    def json(self, *words: str, signs: bool = True) -> Any:
        """The document of a command that succeeds."""
        shown = self.types(*words, "--json", signs=signs)
        return json.loads(shown[shown.index("{") :])

    def look(self, *words: str) -> Any:
        """The same without an account."""
        return self.json(*words, signs=False)

    def configure(self) -> None:
        """What `gateway init` writes, for hosts on this machine, with smaller deposits."""
        self.types("gateway", "init", signs=False)
        file = self.home / "gateway.toml"
        text = file.read_text().replace("port = 8780", f"port = {self.port}")
        text = text.replace("# private_networks", "private_networks")
        file.write_text(text.replace('deposit = "1"', 'deposit = "0.5"').replace("= 256", "= 4"))

    def client(self) -> OpenAI:
        """OpenAI's own client, with the key of `gateway init`."""
        key = load(self.home / "gateway.toml").keys["default"].file.read_text().strip()
        return OpenAI(api_key=key, base_url=f"http://127.0.0.1:{self.port}/v1", max_retries=0)

    def is_up(self) -> bool:
        """Whether the gateway answers, and knows a host."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5)
        except httpx.HTTPError:
            return False
        return bool(answer.json()["hosts"])


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    # On a chain whose time is that of the machine, by which deposits are signed.
    chain = Anvil(block_time=1, arguments=["--mixed-mining"])
    terms = ProofTerms(chance_ppm=1)
    with running() as server, deployment(chain, proofs=terms) as contracts:
        world = InferenceWorld(tmp_path / "world", contracts, server=server)
        world.set_up()
        world.start_agent()
        try:
            yield Tenant(world, tmp_path / "tenant")
        finally:
            world.close()


def test_models_gateway_and_channels__from_the_chain_to_an_answer_and_back(tenant: Tenant) -> None:
    world = tenant.world
    before = world.balance(world.tenant.address)

    def offered() -> Any:
        return tenant.look("models")["models"] or None

    (row,) = until(offered, "the model is on offer", 300)
    assert (row["model"], row["provider"]) == (MODEL, world.owner.address)
    assert row["prices"]["completion"] == "60"
    tenant.configure()
    gateway = tenant.start("gateway", "--config", "gateway.toml")
    try:
        until(tenant.is_up, "the gateway knows the provider", 300)
        client = tenant.client()
        assert [model.id for model in client.models.list()] == [MODEL]
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12)
        assert answer.choices[0].message.content
        cost = answer.usage.model_dump()["cost"] if answer.usage is not None else 0
        assert cost > 0
        words, last = 0, None
        for chunk in client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            max_tokens=30,
            stream=True,
            stream_options={"include_usage": True},
        ):
            words += sum(bool(choice.delta.content) for choice in chunk.choices)
            last = chunk
        assert words == 30
        assert last is not None and last.usage is not None
        cost += last.usage.model_dump()["cost"]
        assert "stop it first" in tenant.types("channel", "refund", code=Exit.UNAVAILABLE)
    finally:
        gateway.send_signal(signal.SIGINT)
        shown, _ = gateway.communicate(timeout=300)
    assert gateway.returncode == 0, shown
    assert "Traceback" not in shown

    rows = tenant.look("gateway", "log")["requests"]
    assert [each["outcome"] for each in rows] == ["ok", "ok"]
    charged = sum(int(each["cost"]) for each in rows)
    assert charged == round(cost * USD) > 0

    (channel,) = tenant.look("channel", "list")["channels"]
    assert int(channel["balance"]) == USD // 2
    assert int(channel["charged"]) == charged
    back = tenant.json("channel", "refund")
    assert back["failed"] == []
    assert int(back["refunded"]) == USD // 2 - charged
    assert world.balance(world.tenant.address) == before - charged
    (channel,) = tenant.look("channel", "list")["channels"]
    assert channel["state"] == "empty"
    assert int(channel["claimed"]) == charged


def test_provider_that_is_gone__deposit_comes_back_by_our_own_transactions(tenant: Tenant) -> None:
    world = tenant.world
    before = world.balance(world.tenant.address)
    tenant.configure()
    until(lambda: tenant.look("models")["models"] or None, "the model is on offer", 300)
    gateway = tenant.start("gateway")
    try:
        until(tenant.is_up, "the gateway knows the provider", 300)
        client = tenant.client()
        client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=5)
    finally:
        gateway.kill()  # as if the machine had lost its power
        gateway.communicate(timeout=300)
    world.kill_agent()
    (row,) = tenant.look("gateway", "log")["requests"]
    shown = tenant.types("channel", "refund", code=Exit.REFUSED)
    assert "1 of 1 channels gave nothing back" in shown and "channel withdraw" in shown
    begun = tenant.json("channel", "withdraw")
    assert len(begun["withdrawing"]) == 1
    tenant.types("channel", "finalize", begun["withdrawing"][0], code=Exit.REFUSED)
    world.anvil.increase_time(86_400)
    done = tenant.json("channel", "finalize")
    assert int(done["withdrawn"]) == world.balance(world.tenant.address) - before + USD // 2
    # It had claimed nothing yet, or just what its receipt says.
    assert USD // 2 - int(done["withdrawn"]) in (0, int(row["cost"]))
    (channel,) = tenant.look("channel", "list")["channels"]
    assert channel["state"] == "empty"
