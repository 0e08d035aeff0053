# SPDX-License-Identifier: Apache-2.0
"""A tenant of a demo: a stranger with a key file, whose lines are commands of `teraproof`."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from rich.text import Text

from scripts.deployment.artifacts import ROOT
from scripts.market.stage import Stage
from teraproof.contracts.payment_token import PaymentTokenContract
from teraproof.errors import CommandError
from teraproof.market.market import Market, transact
from teraproof.market.ui import QuietUi


@dataclass(frozen=True)
class Tenant:
    """Who buys: a key file, and `teraproof` in a process of its own."""

    stage: Stage
    key: LocalAccount

    @classmethod
    def arrive(cls, stage: Stage, market: Market, money: int) -> Tenant:
        """A new account with `money` units of the payment token, and a coin for gas."""
        key = Account.create()
        stage.chain.pool.call("anvil_setBalance", [key.address, hex(10**18)])
        dollar = PaymentTokenContract(stage.chain.pool, market.payment.address)
        mint = dollar.mint(str(key.address), money)
        transact(stage.sender(stage.deployer), QuietUi(), "mint", market.payment, mint)
        stage.ui.step(
            f"a tenant has a key file and {market.show_price(money)} of test dollars: {key.address}"
        )
        return cls(stage, key)

    @property
    def address(self) -> str:
        """Its account."""
        return str(self.key.address)

    @property
    def key_file(self) -> Path:
        """Where its private key is."""
        file = self.stage.home / "tenant.key"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(self.key.key.hex())
        return file

    @property
    def surroundings(self) -> dict[str, str]:
        """The environment of its programs."""
        stage = self.stage
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(stage.home),
            "XDG_STATE_HOME": str(stage.home / "state"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TERAPROOF_RPC_URL": stage.chain.pool.endpoints[0].url,
            "TERAPROOF_DEPLOYMENTS": str(stage.home / "deployments"),
        }

    def command(self, *words: str, account: bool = True) -> list[str]:
        """The program and the words of a command, with the account where it is asked for."""
        signs = ["--key-file", str(self.key_file), "--yes"] if account else []
        head, gap, tail = _split(words)
        return [sys.executable, "-m", "teraproof", *head, *signs, *gap, *tail]

    def types(self, *words: str, account: bool = True, shown: bool = True) -> str:
        """Run a command as a tenant does, and show it; what it prints. CommandError if it fails."""
        stage = self.stage
        if shown:
            self.show(*words)
        said: list[str] = []
        with subprocess.Popen(
            self.command(*words, account=account),
            cwd=stage.home,
            env=self.surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if shown:
                    stage.console.print(Text("    " + line.rstrip()), soft_wrap=True)
        if process.returncode:
            last = said[-1].strip() if said else "it says nothing"
            raise CommandError(f"teraproof {words[0]} {words[1]}: {last.removeprefix('error: ')}")
        return "".join(said)

    def show(self, *words: str) -> None:
        """A command as it is typed."""
        self.stage.console.print(
            Text.assemble(("  $ ", "dim"), (f"teraproof {_line(words)}", "bold"))
        )


def _split(words: tuple[str, ...]) -> tuple[list[str], list[str], list[str]]:
    """Options go before what is meant for a container."""
    if "--" not in words:
        return list(words), [], []
    at = words.index("--")
    return list(words[:at]), ["--"], list(words[at + 1 :])


def _line(words: tuple[str, ...]) -> str:
    return " ".join(f"'{word}'" if " " in word else word for word in words)
