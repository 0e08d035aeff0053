# SPDX-License-Identifier: Apache-2.0
"""An agent of a demo: a process of its own, with a home, settings, a key and a port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.deployment.artifacts import ROOT
from scripts.market.ports import free_port
from teraproof.errors import CommandError

AGENT = ROOT / ".venv-agent" / "bin" / "provider-agent"
RUNTIME = ROOT / ".venv-runtime"

BLOCK_SECONDS = 0.25  # as on Arbitrum

Sandbox = dict[str, Any]
"""How an agent says that it would contain jobs here."""


@dataclass
class Agent:
    """See the module. `extra` are settings of this one, as variables of its environment."""

    name: str
    home: Path
    sandbox: Sandbox = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.home / "provider.toml"

    @property
    def log(self) -> Path:
        """What it has printed."""
        return self.home / "agent.log"

    def command(self, *arguments: str) -> str:
        """Run its command line; what it printed."""
        done = subprocess.run(
            [str(AGENT), *arguments],
            cwd=self.home,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            line = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise CommandError(f"provider-agent {arguments[0]}: {line.removeprefix('error: ')}")
        return done.stdout

    def init(self, rpc_url: str, deployment: Path) -> str:
        """Make settings and a new operator key; the operator's address."""
        said = self.command(
            *("init", "--config", str(self.config), "--rpc-url", rpc_url),
            *("--deployment", str(deployment), "--port", str(self.port)),
        )
        return said.partition("operator")[2].split()[0]

    def consent(self, owner: str) -> Path:
        """The file in which its operator agrees to work for an owner."""
        file = self.home / "consent.json"
        line = ("consent", "--config", str(self.config), "--owner", owner)
        self.command(*line, "--output", str(file))
        return file

    def ask_for_sandbox(self) -> Sandbox:
        """How this machine contains jobs; it runs on what there is from now on."""
        self.sandbox = json.loads(self.command("sandbox", "--json"))
        return self.sandbox

    def start(self) -> None:
        """Start it as a process of its own."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(AGENT), "run", "--config", str(self.config)],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_ready(self) -> bool:
        """Whether it works for a provider and has read the chain."""
        import httpx  # the list of scripts is read without it

        try:
            answer = httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def has_ended(self) -> bool:
        """Whether it has stopped by itself."""
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """End it and whatever it runs by SIGKILL, as if the machine were gone."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process = None
        here = f"{self.home}/"
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if here in (entry / "cmdline").read_bytes().decode(errors="replace"):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue  # it has ended meanwhile, or is not ours

    def _environment(self) -> dict[str, str]:
        """The agent gets the path of our own environment, and its settings."""
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            # Any free port: the next one after its own may be another agent's.
            "TERAPROOF_API__STATUS_PORT": "0",
            # All agents of the play are on this machine.
            "TERAPROOF_AGENT__PRIVATE_NETWORKS": "127.0.0.0/8",
            "TERAPROOF_CHAIN__CONFIRMATIONS": "0",
            "TERAPROOF_CHAIN__BLOCK_SECONDS": str(BLOCK_SECONDS),
            "TERAPROOF_CHAIN__POLL_SECONDS": "0.2",
            # The play lets days pass on its chain.
            "TERAPROOF_CHAIN__CLOCK_MARGIN_SECONDS": "1000000000",
            "TERAPROOF_RUNNER__RUNTIMES": f'{{"python-ml": "{RUNTIME}"}}',
            "TERAPROOF_RUNNER__SANDBOX": self.sandbox.get("walls", "bubblewrap"),
            # The demo's own job is not a stranger's; a machine without limits can show it, too.
            "TERAPROOF_RUNNER__ALLOW_UNLIMITED": self.sandbox.get("accept", ""),
            **self.extra,
        }
