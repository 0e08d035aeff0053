# SPDX-License-Identifier: Apache-2.0
"""Leases with nothing played: agents as processes, Docker Engine, a chain, and a tenant that runs
`teraproof` in a process of its own, with the packages that a tenant installs.

Everything is where the engine's networks are.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.runners.docker.engine import Engine
from scripts.market.agents import Agent
from scripts.market.lease_story import settings
from teraproof.errors import CommandError
from teraproof.market import consents, providers, registry, tokens
from teraproof.market.sending import Sender
from teraproof.market.signers import KeySigner
from teraproof.market.ui import QuietUi
from tests.scripts.actors import sender_of
from tests.sdk.lease_stage import LeaseStage, deploy_leases
from tests.support.anvil import ROOT, Anvil
from tools.engine import Daemon

TPF = 10**18
PYTHON = ROOT / ".venv-agent" / "bin" / "python"
PATIENCE = 120.0
_Found = TypeVar("_Found")


@dataclass
class Provider:
    """An owner, and its agent on a machine of its own as far as leases can see."""

    agent: Agent
    owner: LocalAccount
    engine: Engine

    @property
    def address(self) -> str:
        """The owner's."""
        return str(self.owner.address)

    def containers(self) -> list[dict[str, Any]]:
        """What its agent has made, as the engine shows it."""
        listed = self.engine.get("/containers/json", all=True)
        found = [self.engine.find(f"/containers/{one['Id']}/json") for one in listed]
        here = f"{self.agent.home}/"
        # One that was listed may be gone: an engine goes on deleting for an agent that was killed.
        return [one for one in found if one and any(here in s["Source"] for s in one["Mounts"])]

    def lose_power(self) -> None:
        """Agent and containers end at once, by SIGKILL."""
        self.agent.kill()
        for one in self.containers():
            self.engine.delete(f"/containers/{one['Id']}", force=True)


@dataclass
class Camp:
    """See the module."""

    stage: LeaseStage
    daemon: Daemon
    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    """What the tenant has set, besides the chain and its account."""
    providers: list[Provider] = field(default_factory=list)

    def provider(self, **extra: str) -> Provider:
        """One more, which takes leases."""
        stage, number = self.stage, len(self.providers) + 1
        owner = Account.create()
        stage.anvil.set_balance(owner.address, 10**18)
        tokens.send_stake(
            stage.market, sender_of(stage.anvil, 0), QuietUi(), str(owner.address), 1_000 * TPF
        )
        ports = {
            "TERAPROOF_LEASES__ADDRESSES": f"198.18.{16 * number}.0/20",
            "TERAPROOF_LEASES__OUTER_PORTS": f"[{30_000 + 100 * number}, {30_099 + 100 * number}]",
            "TERAPROOF_LEASES__NAMES_PORT": str(31_000 + number),
            "TERAPROOF_RUNNER__DISK_RESERVE_MB": "0",
            "TERAPROOF_RUNNER__MEMORY_RESERVE_MB": "0",
        }
        made = {**settings(str(self.daemon.socket)), **ports, **extra}
        agent = Agent(f"agent {number}", self.home / f"provider-{number}", extra=made)
        chain = stage.market.chain
        operator = agent.init(
            stage.anvil.url, registry.path_of(stage.home / "deployments", chain.chain_id)
        )
        stage.anvil.set_balance(operator, 10**18)
        agent.ask_for_sandbox()
        agent.start()
        found = Provider(agent, owner, Engine(self.daemon.socket))
        self.providers.append(found)
        consent = consents.read(agent.consent(found.address), stage.market, found.address)
        sender = Sender(chain, KeySigner(owner, "owner"))
        providers.register(
            stage.market,
            sender,
            QuietUi(),
            consent,
            max_lock_per_order=500 * TPF,
            max_locked=900 * TPF,
        )
        providers.delegate(stage.market, sender, QuietUi(), found.address, 1_000 * TPF)
        self.until(agent.is_ready, f"{agent.name} is ready")
        return found

    # ------------------------------------------------------------------ the tenant

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """A command of the tenant's, under way."""
        file = self.stage.home / f"{self.stage.tenant.address}.key"
        head, gap, tail = list(words), [], []
        if "--" in words:
            at = words.index("--")
            head, gap, tail = list(words[:at]), ["--"], list(words[at + 1 :])
        return subprocess.Popen(
            [str(PYTHON), "-m", "teraproof", *head, "--key-file", str(file), "--yes", *gap, *tail],
            cwd=self.home,
            env={
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(self.home),
                "XDG_STATE_HOME": str(self.home / "state"),
                "TERAPROOF_RPC_URL": self.stage.anvil.url,
                "TERAPROOF_DEPLOYMENTS": str(self.stage.home / "deployments"),
                "COLUMNS": "250",
                **self.environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def types(self, *words: str, code: int = 0) -> str:
        """What a command prints that ends with `code`."""
        process = self.begin(*words)
        try:
            said = process.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"{words}: {process.communicate()[0]}") from None
        assert process.returncode == code, f"{words}: {said}"
        return said

    def json(self, *words: str) -> Any:
        """Its document."""
        said = self.types(*words, "--json")
        return json.loads(said[said.index("{") :])

    # ------------------------------------------------------------------ waiting

    def until(self, look: Callable[[], _Found], what: str) -> _Found:
        """What `look` finds, once it finds something."""
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(CommandError):
                found = look()
                if found:
                    return found
            assert time.monotonic() < end, f"not so: {what}\n{self.logs()}"
            for one in self.providers:
                assert not one.agent.has_ended(), f"{one.agent.name} has ended\n{self.logs()}"
            time.sleep(0.3)

    def logs(self) -> str:
        """The ends of the agents' logs."""
        ends = []
        for one in self.providers:
            lines = one.agent.log.read_text(errors="replace").splitlines()[-15:]
            ends += [one.agent.name, *lines]
        return "\n".join(ends)


@contextlib.contextmanager
def camp(daemon: Daemon) -> Iterator[Camp]:
    """A market on a chain of one block a second, without providers. Call it inside the engine's
    namespace. Agents, containers and file systems end with it.
    """
    home = Path(tempfile.mkdtemp(prefix="tp-camp-"))
    with Anvil(block_time=1) as anvil:
        made = Camp(deploy_leases(home, anvil), daemon, home)
        try:
            yield made
        finally:
            for one in made.providers:
                one.lose_power()
            _unmount(home)
            shutil.rmtree(home, ignore_errors=True)


def _unmount(home: Path) -> None:
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if target.startswith(f"{home}/"):
            subprocess.run(["umount", "-l", target], check=False, stderr=subprocess.DEVNULL)
