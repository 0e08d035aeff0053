# SPDX-License-Identifier: Apache-2.0
"""The demo's stage: three people, a local chain whose clock moves, and an agent of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from scripts.deployment.artifacts import ROOT
from scripts.market.accounts import ApeSigner
from teraproof.errors import CommandError
from teraproof.market.chain import Chain
from teraproof.market.sending import Sender
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Receipt

AGENT = ROOT / ".venv-agent" / "bin" / "provider-agent"
RUNTIME = ROOT / ".venv-runtime"

BLOCK_SECONDS = 0.25  # as on Arbitrum

_Found = TypeVar("_Found")


@dataclass
class StageUi:
    """Steps as they happen. Tables and questions of the scripts are left out: nobody is asked."""

    console: Console
    started: float

    def act(self, title: str) -> None:
        """A new part of the story, with the seconds that have gone by."""
        self.console.print()
        clock = f"  {time.monotonic() - self.started:.0f} s"
        self.console.rule(Text.assemble((title, "bold"), (clock, "dim")), align="left")

    def doing(self, text: str) -> None:
        """Left out: the demo waits visibly by itself."""

    def step(self, text: str) -> None:
        """Something was done. Fees and hashes of transactions mean nothing here."""
        self.console.print(
            Text.assemble(("  ✓ ", "green"), re.sub(r" gas\b.* 0x\w{64}$", " gas", text))
        )

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self.console.print(Text("    " + text, style="dim"))

    def table(self, title: str, columns: object, rows: object) -> None:
        """Left out: the steps say it."""

    def ask(self, question: str) -> None:
        """Agreed."""


@dataclass
class Stage:
    """See the module. A context manager: the agent never outlives it."""

    chain: Chain
    home: Path
    deployer: ApeSigner
    owner: ApeSigner
    tenant: ApeSigner
    console: Console = field(default_factory=lambda: _console())
    agent: subprocess.Popen[bytes] | None = None
    gas: dict[str, int] = field(default_factory=dict)
    """Gas by the name of the step, in the order in which they happened."""

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.ui = StageUi(self.console, self.started)
        self._ended = threading.Event()
        self._miner = threading.Thread(target=self._mine, daemon=True)
        self.sandbox: dict[str, Any] = {}
        """How the agent says that it would contain jobs here; empty until it is asked."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def __enter__(self) -> Stage:
        if not AGENT.exists():
            raise CommandError(f"{AGENT} is missing; run make demo, which sets it up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill_agent()
        self._ended.set()
        if self._miner.is_alive():
            self._miner.join()
        log = self.home / "agent.log"
        # Whoever stops the demo does not look for a mistake of the agent.
        if isinstance(error, Exception) and log.exists():
            self.ui.note("the end of the agent's log:")
            for line in log.read_text(errors="replace").splitlines()[-15:]:
                self.ui.note(line)

    # ------------------------------------------------------------------ people and chain

    def sender(self, signer: ApeSigner) -> Sender:
        """Sends transactions of one of the people."""
        return Sender(self.chain, signer)

    def spend(self, name: str, receipt: Receipt) -> None:
        """Remember what a step has cost."""
        self.gas[name] = receipt.gas_used

    def tick(self) -> None:
        """From now on a block every BLOCK_SECONDS, as on a chain with other people. The chain's
        clock goes on from its newest block.
        """
        self.chain.pool.call("evm_setAutomine", [False])
        self.pass_time(1)
        self._miner.start()

    def pass_time(self, seconds: int) -> None:
        """Move the chain's clock on from its newest block."""
        then = self.chain.head().timestamp + seconds
        self.chain.pool.call("evm_setNextBlockTimestamp", [then])
        self.chain.pool.call("evm_mine")

    def _mine(self) -> None:
        # Anvil's own intervals are whole seconds.
        while not self._ended.wait(BLOCK_SECONDS):
            try:
                self.chain.pool.call("evm_mine")
            except ChainError:
                continue  # whoever waits for a block says that there is none

    # ------------------------------------------------------------------ the agent

    @property
    def url(self) -> str:
        """Where the agent is reached."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """The agent's settings."""
        return self.home / "provider" / "provider.toml"

    def ask_for_sandbox(self) -> None:
        """Ask the agent how this machine contains jobs, and let it run on what there is."""
        self.sandbox = json.loads(self.agent_command("sandbox", "--json"))
        if self.sandbox["walls"] == "none":
            self.ui.note("bubblewrap is missing: the demo runs its own job WITHOUT a sandbox")
            self.ui.note("a provider never should; Debian: apt-get install bubblewrap")
        if not self.sandbox["holds"]:
            self.ui.note("this machine cannot hold a job to its memory and disk, only watch it:")
            self.ui.note("the demo accepts that for its own job (runner.allow_unlimited)")

    def agent_command(self, *arguments: str) -> str:
        """Run the agent's command line; what it printed."""
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

    def start_agent(self) -> None:
        """Start the agent as a process of its own."""
        with (self.home / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                [str(AGENT), "run", "--config", str(self.config)],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def await_agent(self) -> None:
        """Wait until the agent is ready: it works for a provider and has read the chain."""

        def look() -> bool | None:
            try:
                answer = httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5)
            except httpx.HTTPError:
                return None
            return True if answer.status_code == 200 else None

        self.wait("the agent", look, 90)

    def kill_agent(self) -> None:
        """End the agent and whatever it runs by SIGKILL, as if the machine were gone."""
        if self.agent is None:
            return
        self.agent.kill()
        self.agent.wait()
        self.agent = None
        here = str(self.home)
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if here in (entry / "cmdline").read_bytes().decode(errors="replace"):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue  # it has ended meanwhile, or is not ours

    def wait(
        self,
        what: str,
        look: Callable[[], _Found | None],
        seconds: float,
        *,
        shown: bool = False,
    ) -> _Found:
        """Wait for something, visibly; `shown` when the caller shows how it goes."""
        end = time.monotonic() + seconds
        status = nullcontext() if shown else self.console.status(f"waiting for {what}")
        with status:
            while True:
                found = look()
                if found is not None:
                    return found
                if self.agent is not None and self.agent.poll() is not None:
                    raise CommandError("the agent has ended")
                if time.monotonic() > end:
                    raise CommandError(f"{what}: nothing after {seconds:.0f} s")
                time.sleep(0.1)

    def _environment(self) -> dict[str, str]:
        """The agent gets the path of our own environment, and its settings."""
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "TERAPROOF_CHAIN__CONFIRMATIONS": "0",
            "TERAPROOF_CHAIN__BLOCK_SECONDS": str(BLOCK_SECONDS),
            "TERAPROOF_CHAIN__POLL_SECONDS": "0.2",
            # The play lets days pass on its chain.
            "TERAPROOF_CHAIN__CLOCK_MARGIN_SECONDS": "1000000000",
            "TERAPROOF_RUNNER__RUNTIMES": f'{{"python-ml": "{RUNTIME}"}}',
            "TERAPROOF_RUNNER__SANDBOX": self.sandbox.get("walls", "bubblewrap"),
            # The demo's own job is not a stranger's; a machine without limits can show it, too.
            "TERAPROOF_RUNNER__ALLOW_UNLIMITED": self.sandbox.get("accept", ""),
        }

    # ------------------------------------------------------------------ what is shown

    def panel(self, title: str, lines: list[str]) -> None:
        """A box with some lines."""
        self.console.print(Panel("\n".join(lines), title=title, title_align="left", expand=False))

    def grid(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """A table; all columns but the first are numbers."""
        table = Table(title=title, title_justify="left", title_style="bold")
        for number, name in enumerate(columns):
            table.add_column(name, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)


def _console() -> Console:
    # A log has no width of its own.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 100)
