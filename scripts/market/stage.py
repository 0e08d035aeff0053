# SPDX-License-Identifier: Apache-2.0
"""A demo's stage: people, a local chain whose clock moves, and agents of its own."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from scripts.market.accounts import ApeSigner
from scripts.market.agents import AGENT, BLOCK_SECONDS, Agent, Sandbox
from teraproof.errors import CommandError
from teraproof.market.chain import Chain
from teraproof.market.sending import Sender
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Receipt

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
    """See the module. A context manager: no agent outlives it. `agent` is that of the owner."""

    chain: Chain
    home: Path
    deployer: ApeSigner
    owner: ApeSigner
    tenant: ApeSigner
    console: Console = field(default_factory=lambda: _console())
    agents: list[Agent] = field(default_factory=list)
    gas: dict[str, int] = field(default_factory=dict)
    """Gas by the name of the step, in the order in which they happened."""

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.ui = StageUi(self.console, self.started)
        self._ended = threading.Event()
        self._miner = threading.Thread(target=self._mine, daemon=True)
        self.agent = self.hire("the agent", self.home / "provider")

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
        for agent in self.agents:
            agent.kill()
        self._ended.set()
        if self._miner.is_alive():
            self._miner.join()
        # Whoever stops the demo does not look for a mistake of the agents.
        for agent in self.agents if isinstance(error, Exception) else ():
            if agent.log.exists():
                self.ui.note(f"the end of the log of {agent.name}:")
                for line in agent.log.read_text(errors="replace").splitlines()[-15:]:
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

    def hire(self, name: str, home: Path, extra: Mapping[str, str] | None = None) -> Agent:
        """One more agent, which ends with the stage; it is not started yet."""
        made = Agent(name, home, extra=dict(extra or {}))
        self.agents.append(made)
        return made

    def ask_for_sandbox(self) -> Sandbox:
        """Ask how this machine contains jobs, and let the agent run on what there is."""
        found = self.agent.ask_for_sandbox()
        if found["walls"] == "none":
            self.ui.note("bubblewrap is missing: the demo runs its own job WITHOUT a sandbox")
            self.ui.note("a provider never should; Debian: apt-get install bubblewrap")
        if not found["holds"]:
            self.ui.note("this machine cannot hold a job to its memory and disk, only watch it:")
            self.ui.note("the demo accepts that for its own job (runner.allow_unlimited)")
        return found

    def await_agent(self, agent: Agent | None = None) -> None:
        """Wait until an agent is ready: it works for a provider and has read the chain."""
        asked = agent or self.agent
        self.wait(asked.name, lambda: True if asked.is_ready() else None, 90)

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
                for agent in self.agents:
                    if agent.has_ended():
                        raise CommandError(f"{agent.name} has ended")
                if time.monotonic() > end:
                    raise CommandError(f"{what}: nothing after {seconds:.0f} s")
                time.sleep(0.1)

    # ------------------------------------------------------------------ what is shown

    def farewell(self, done: str, kept: Path | None, more: str) -> None:
        """The last lines: what was shown, what is left of it, and what to try next."""
        taken = time.monotonic() - self.started
        self.console.print(f"\nDone in {taken:.0f} s: {done}.")
        left = f"Its files are in {kept}" if kept else "Its files are removed"
        self.console.print(f"{left}; the local chain ends with it. {more}")

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
