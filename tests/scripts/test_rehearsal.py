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

from teraproof.protocol.errors import Exit
from tests.support.anvil import ROOT, Anvil

PASSPHRASE = "correct horse"
STEPS = 19
ETHER = 10**18
EXAMPLE = "examples/finetune-digits"
NOBODY = "0x1111111111111111111111111111111111111111"


@dataclass
class Terminal:
    """Runs `ape run` in a home of its own, with no terminal behind it."""

    home: Path
    anvil: Anvil
    network: str
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

    def _process(self, command: list[str]) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "APE_DATA_FOLDER": str(self.home / "ape"),
            "PYTHONPATH": str(ROOT),
        }
        # The account called "locked" has no passphrase here, and there is no terminal to ask at.
        environment |= {
            f"APE_ACCOUNTS_{alias}_PASSPHRASE": PASSPHRASE
            for alias in self.accounts
            if alias != "locked"
        }
        environment["APE_ACCOUNTS_mistyped_PASSPHRASE"] = "something else"
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if command[0] != "ape" else subprocess.STDOUT,
            text=True,
        )

    def _arguments(self, line: str) -> list[str]:
        arguments = ["run", *line.split()]
        if arguments[-1] == "--network":
            arguments.pop()  # left to Ape
        elif "--network" not in arguments:
            arguments += ["--network", self.network]
        if arguments[1:3] == ["job", "check"]:
            return arguments[: arguments.index("--network")]
        return [*arguments, "--deployments", str(self.home / "deployments")]

    def start(self, line: str) -> subprocess.Popen[str]:
        """Start `ape run` with these arguments."""
        return self._process(["ape", *self._arguments(line)])

    def run(self, *lines: str) -> list[tuple[int, str]]:
        """Exit code and output of each command."""
        process = self._process([sys.executable, "-m", "tests.scripts.session"])
        asked = json.dumps([self._arguments(line) for line in lines])
        answer, _ = process.communicate(asked, timeout=200)
        # Ape may say goodbye to a local node after the answer.
        results, _ = json.JSONDecoder().raw_decode(answer)
        return [(code, output) for code, output in results]

    def registry(self) -> dict[str, object]:
        """The deployment so far; empty before the first step."""
        path = self.home / "deployments" / f"{self.anvil.chain_id}.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with Anvil(11155111, block_time=1, accounts=1) as anvil:
        home = tmp_path_factory.mktemp("home")
        terminal = Terminal(home, anvil, f"ethereum:sepolia:{anvil.url}")
        for alias in ("deployer", "locked", "mistyped"):
            terminal.add_account(alias, 10)
        terminal.add_account("poor", 0)
        yield terminal


def line_of(result: tuple[int, str], kind: Exit = Exit.FAULT) -> str:
    """The one line of a command that failed as it should, with the exit code of its kind."""
    code, output = result
    assert code == kind, output
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    return line


def test_commands__mistakes__one_line_each_and_nothing_sent(terminal: Terminal) -> None:
    url = terminal.anvil.url
    expected = {
        "deploy --yes": (
            Exit.INPUT,
            "pass --account NAME (accounts here: deployer, locked, mistyped, poor)",
        ),
        "job list --network ethereum:sepolia": (
            Exit.INPUT,
            "SEPOLIA_RPC_URL is not set; export it, or use",
        ),
        "job list --network ethereum:mainnet": (Exit.INPUT, "ethereum:mainnet has no RPC URL here"),
        "deploy --yes --account nobody": (Exit.INPUT, "no account 'nobody'"),
        "deploy --yes --account TEST::0": (Exit.INPUT, "a test account whose key everybody knows"),
        "deploy --yes --account poor": (Exit.REFUSED, "holds 0 ETH and may need"),
        "deploy --account deployer": (Exit.INPUT, "nobody is there to ask; pass --yes"),
        "deploy --yes --account locked": (
            Exit.INPUT,
            "is locked; set APE_ACCOUNTS_locked_PASSPHRASE",
        ),
        "deploy --yes --account mistyped": (
            Exit.INPUT,
            "wrong passphrase in APE_ACCOUNTS_mistyped_PASSPHRASE",
        ),
        "deploy --yes --account deployer --plan deployments/params/base-sepolia.yaml": (
            Exit.INPUT,
            "base-sepolia.yaml is for chain 84532, but ethereum:sepolia is chain 11155111",
        ),
        "job list": (Exit.INPUT, "no deployment is known"),
        f"job list --network ethereum:mainnet:{url}": (Exit.INPUT, "wrong network"),
        "job list --network ethereum:sepolia:http://127.0.0.1:9": (
            Exit.UNAVAILABLE,
            "no RPC endpoint answers",
        ),
    }
    results = terminal.run(*expected)
    for (command, (kind, line)), result in zip(expected.items(), results, strict=True):
        assert line in line_of(result, kind), command
    assert terminal.registry() == {}
    assert terminal.anvil.nonce(terminal.accounts["deployer"]) == 0


def test_deploy__killed_midway__a_second_run_finishes(terminal: Terminal) -> None:
    process = terminal.start("deploy --account deployer --yes")
    end = time.monotonic() + 90
    while "Staking" not in json.dumps(terminal.registry()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not terminal.registry().get("complete")

    early, finished, again = terminal.run(
        "provider status", "deploy --account deployer --yes", "deploy"
    )
    assert "is not finished; run ape run deploy again" in line_of(early, Exit.INPUT)
    assert finished[0] == 0, finished[1]
    assert "going on after" in finished[1]
    assert terminal.registry()["complete"] is True
    assert terminal.anvil.nonce(terminal.accounts["deployer"]) == STEPS
    # Finished: another run only verifies, and needs no account.
    assert again[0] == 0, again[1]
    assert "deployed already on chain 11155111; verifying" in again[1]
    assert "WRONG" not in again[1]


def test_commands__a_tenants_day__every_step_works(terminal: Terminal) -> None:
    """After the deployment above; no provider is there, so the job is taken back."""
    expected = {
        "tokens mint 100 --account deployer --yes": "mint 100 tUSD",
        "tokens send 5 --to NOBODY --account deployer --yes": "send 5 TPF",
        "job check examples/finetune-digits": "no fault was found",
        f"job post {EXAMPLE} --price 2 --wait-for-provider --account deployer --yes": "post: ",
        "job list --account deployer": "open until",
        "job status JOB": "to deliver",
        "job cancel JOB --account deployer --yes": "cancel: ",
        "job list": "refunded 2 tUSD",
        "job withdraw --account deployer --yes": "withdraw 2 tUSD: ",
        "provider status": "no provider is registered here",
        "provider list": "no provider is registered here",
        "proof status": "32,768 x 32,640 x 32,768, 8 samples, window 30 min",
        "rewards weights": "none yet",
        "rewards set-weights 80% --account deployer --yes": "propose: ",
    }
    mistakes = {
        "job post examples/finetune-digits --price 2 --account deployer --yes": (
            Exit.REFUSED,
            "no provider is registered; nothing was sent",
        ),
        "job wait JOB": (Exit.JOB_FAILED, "did not succeed: cancelled"),
        "job logs JOB --account deployer": (Exit.UNAVAILABLE, "has no provider yet"),
        "job approve JOB --account deployer --yes": (
            Exit.REFUSED,
            "is cancelled; only a job that is attested",
        ),
        "job cancel 0x00000000 --account deployer --yes": (Exit.INPUT, "no job 0x00000000"),
        "job post nowhere --price 2 --account deployer --yes": (Exit.INPUT, "cannot read nowhere"),
        "job post examples/finetune-digits --price 1 --start-price 2 --account deployer": (
            Exit.INPUT,
            "--start-price: above --price",
        ),
        "job post examples/finetune-digits --price two --account deployer": (
            Exit.INPUT,
            "'two' is not an am",
        ),
        "job withdraw --account deployer --yes": (Exit.FAULT, "has nothing to withdraw"),
        "provider stake 5 --account deployer --yes": (Exit.INPUT, "is not a registered provider"),
        "provider withdraw --account deployer --receiver 0x12 --yes": (
            Exit.INPUT,
            "is not an address",
        ),
        "job hire examples/finetune-digits --account deployer --yes": (
            Exit.REFUSED,
            "no provider is registered",
        ),
        "proof open --account deployer --yes": (
            Exit.FAULT,
            "no boundary that can be presented now has won",
        ),
        "proof close --account deployer --yes": (
            Exit.FAULT,
            "epoch 0 cannot be closed: no window has opened",
        ),
        "proof draw --account deployer --yes": (
            Exit.FAULT,
            "epoch 0 cannot be drawn: no window has opened yet",
        ),
        "proof status --epoch 1": (Exit.INPUT, "there is no epoch 1: no window has opened yet"),
        "proof settle NOBODY --account deployer --yes": (
            Exit.INPUT,
            "is not a registered provider",
        ),
        "provider take-back --account deployer --yes": (Exit.FAULT, "has no entry with"),
        "provider activate --account deployer --yes": (Exit.FAULT, "has no entry with"),
        "proof fail NOBODY --account deployer --yes": (Exit.INPUT, "is not a registered provider"),
        "proof release-bond --account deployer --yes": (Exit.INPUT, "is not a registered provider"),
        "rewards set-weights 80% --account deployer --yes": (Exit.FAULT, "can be carried out"),
        "rewards set-weights 101% --account deployer --yes": (
            Exit.INPUT,
            "WEIGHTS: 101% is above 100 %",
        ),
        "rewards show": (Exit.INPUT, "whose rewards? pass --provider ADDRESS"),
        "rewards claim --account deployer --provider NOBODY --yes": (
            Exit.INPUT,
            "is not a registered provider",
        ),
        "job post examples/finetune-digits --price 2 --min-score fast --account deployer": (
            Exit.INPUT,
            "--min-score: 'fast' is not a throughput",
        ),
        # A chain of Ape's own ends with the command; nobody means that without saying so.
        "deploy --account TEST::0 --yes --network": (Exit.INPUT, "choose a network with --network"),
        "job list --network ethereum:local:foundry": (
            Exit.INPUT,
            "no deployment is known",
        ),
    }
    commands = [line.replace("NOBODY", NOBODY) for line in (*expected, *mistakes)]
    results = terminal.run(*commands)
    done, refused = results[: len(expected)], results[len(expected) :]
    for (command, text), (code, output) in zip(expected.items(), done, strict=True):
        assert code == 0, (command, output)
        assert text in output, (command, output)
    for (command, (kind, text)), result in zip(mistakes.items(), refused, strict=True):
        assert text in line_of(result, kind), command
