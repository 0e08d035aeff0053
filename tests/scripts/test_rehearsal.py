# SPDX-License-Identifier: Apache-2.0
"""The commands as people run them, against an anvil that plays Sepolia: chain id 11155111, a block
a second, an encrypted Ape account, and no unlocked accounts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from eth_account import Account

from tests.support.anvil import ROOT, Anvil

PASSPHRASE = "correct horse"
STEPS = 7
ETHER = 10**18


@dataclass
class Terminal:
    """Runs `ape run` in a home of its own, with no terminal behind it."""

    home: Path
    anvil: Anvil
    network: str
    passphrase: str | None = PASSPHRASE
    accounts: dict[str, str] = field(default_factory=dict)

    def add_account(self, alias: str, ether: int) -> str:
        """Make an encrypted account with a cheap key derivation; its address."""
        account = Account.create()
        folder = self.home / "ape" / "accounts"
        folder.mkdir(parents=True, exist_ok=True)
        keyfile = Account.encrypt(account.key, PASSPHRASE, kdf="pbkdf2", iterations=1_000)
        (folder / f"{alias}.json").write_text(json.dumps(keyfile))
        self.anvil.set_balance(account.address, ether * ETHER)
        self.accounts[alias] = str(account.address)
        return str(account.address)

    def start(self, *arguments: str, network: str | None = None) -> subprocess.Popen[str]:
        """Start a command."""
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "APE_DATA_FOLDER": str(self.home / "ape"),
        }
        if self.passphrase is not None:
            environment |= {
                f"APE_ACCOUNTS_{alias}_PASSPHRASE": self.passphrase for alias in self.accounts
            }
        command = ["ape", "run", *arguments, "--network", network or self.network]
        command += ["--deployments", str(self.home / "deployments")]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, network: str | None = None) -> tuple[int, str]:
        """Exit code and output of a command."""
        process = self.start(*arguments, network=network)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def fails(self, *arguments: str, network: str | None = None) -> str:
        """The one line of a command that must fail."""
        code, output = self.run(*arguments, network=network)
        assert code == 1, output
        assert "Traceback" not in output
        lines = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, output
        return lines[0]

    def registry(self) -> dict[str, object]:
        """The deployment so far; empty before the first step."""
        path = self.home / "deployments" / f"{self.anvil.chain_id}.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with Anvil(11155111, block_time=1, accounts=1) as anvil:
        home = tmp_path_factory.mktemp("home")
        terminal = Terminal(home, anvil, f"ethereum:sepolia:{anvil.url}")
        terminal.add_account("deployer", 10)
        terminal.add_account("poor", 0)
        yield terminal


def test_deploy__mistakes__one_line_each_and_nothing_sent(terminal: Terminal) -> None:
    locked = Terminal(terminal.home, terminal.anvil, terminal.network, None, terminal.accounts)
    line = locked.fails("deploy", "--account", "deployer", "--yes")
    assert "account deployer is locked; set APE_ACCOUNTS_deployer_PASSPHRASE" in line
    line = terminal.fails("deploy", "--account", "poor", "--yes")
    assert "holds 0 ETH and may need" in line
    line = terminal.fails("job", "list")
    assert "no deployment is known on chain 11155111" in line
    assert terminal.registry() == {}


def test_deploy__killed_midway__a_second_run_finishes(terminal: Terminal) -> None:
    process = terminal.start("deploy", "--account", "deployer", "--yes")
    end = time.monotonic() + 60
    while len(dict(terminal.registry().get("contracts", {}))) < 3:  # type: ignore[call-overload]  # JSON
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not terminal.registry().get("complete")

    assert "is not finished; run ape run deploy again" in terminal.fails("provider", "status")
    code, output = terminal.run("deploy", "--account", "deployer", "--yes")
    assert code == 0, output
    assert "going on after" in output
    assert terminal.registry()["complete"] is True
    assert terminal.anvil.nonce(terminal.accounts["deployer"]) == STEPS
    # Finished: a third run only verifies, and needs no account.
    code, output = terminal.run("deploy")
    assert code == 0, output
    assert "verifying" in output
    assert "WRONG" not in output


def test_commands__wrong_network__one_line(terminal: Terminal) -> None:
    line = terminal.fails("job", "list", network=f"ethereum:mainnet:{terminal.anvil.url}")
    assert "wrong network" in line or "chain" in line
    line = terminal.fails("job", "list", network="ethereum:sepolia:http://127.0.0.1:9")
    assert "no RPC endpoint answers" in line
