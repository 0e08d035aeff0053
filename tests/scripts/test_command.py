# SPDX-License-Identifier: Apache-2.0
"""The frame of the scripts: Ctrl-C, the chosen network, the interpreter's own tools."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import httpx
import pytest
from ape.exceptions import (
    NetworkMismatchError,
    ProviderError,
    ProviderNotConnectedError,
    TransactionNotFoundError,
)
from ape_accounts.accounts import KeyfileAccount
from eth_account import Account
from eth_account.messages import encode_defunct
from rich.console import Console

from scripts import deploy
from scripts.market import choice
from scripts.market.accounts import ApeSigner
from scripts.market.command import HOST, own_tools_first
from scripts.market.stage import Stage
from teraproof.cli.frame import OneLine
from teraproof.cli.ui import ConsoleUi
from teraproof.errors import CommandError, Declined, WrongInput
from teraproof.market.market import transact
from teraproof.protocol.errors import Code, Exit
from teraproof.rpc.errors import ChainError
from teraproof.rpc.fees import Offer
from tests.support.anvil import ROOT
from tests.support.codes import fails_as


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (SystemExit(130), 130), (click.Abort(), 3)],
)
def test_one_line__interrupted__says_how_to_go_on(error: BaseException, code: int) -> None:
    wanted = pytest.raises(click.ClickException, match="run the same command again")
    with wanted as raised, OneLine(HOST):
        raise error
    assert raised.value.exit_code == code


def test_one_line__bug_or_other_exit__is_let_through() -> None:
    for error in (ZeroDivisionError(), SystemExit(2)):
        with pytest.raises(type(error)), OneLine(HOST):
            raise error
    with pytest.raises(click.ClickException, match="declined") as raised, OneLine(HOST):
        raise Declined
    assert raised.value.exit_code == Exit.REFUSED


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CommandError("x"), Exit.FAULT),
        (WrongInput("x"), Exit.INPUT),
        (CommandError("x", Code.CONTRACT_REFUSED), Exit.REFUSED),
        (CommandError("x", Code.JOB_FAILED), Exit.JOB_FAILED),
        (ChainError("x"), Exit.UNAVAILABLE),
        (cast(Any, ProviderNotConnectedError)(), Exit.UNAVAILABLE),
        # Ape says by the bare class that there is no node; what it says is its business.
        (ProviderError("in other words"), Exit.UNAVAILABLE),
        (NetworkMismatchError(1, cast(Any, SimpleNamespace(name="base", chain_id=2))), Exit.INPUT),
        (TransactionNotFoundError("0x12"), Exit.FAULT),
        (httpx.ConnectError("x"), Exit.UNAVAILABLE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_line__exit_code_by_the_kind_of_error(error: Exception, kind: Exit) -> None:
    with pytest.raises(click.ClickException) as raised, OneLine(HOST):
        raise error
    assert raised.value.exit_code == kind


def _node(network: str, ecosystem: str = "ethereum", **settings: Any) -> SimpleNamespace:
    names = SimpleNamespace(is_dev=False, name=network, ecosystem=SimpleNamespace(name=ecosystem))
    return SimpleNamespace(name="node", network=names, settings=settings)


def test_check__network_without_a_usable_url__one_line_names_the_variable() -> None:
    def sepolia(uri: str) -> SimpleNamespace:
        return _node("sepolia", "base", base={"sepolia": {"uri": uri}})

    url = "https://rpc.example/v1"
    assert choice.url_of(sepolia(url)) == url
    assert choice.url_of(_node("mainnet", uri=url)) == url
    for provider, line in (
        (sepolia("$BASE_SEPOLIA_RPC_URL"), "BASE_SEPOLIA_RPC_URL is not set; export it, or use"),
        (sepolia("rpc.example"), "BASE_SEPOLIA_RPC_URL is not a URL"),
        (_node("mainnet"), "ethereum:mainnet has no RPC URL here"),
        (_node("other", ethereum={"other": {"uri": "x"}}), "in Ape's settings is none"),
    ):
        with pytest.raises(CommandError, match=line):
            choice.url_of(provider)


def test_own_tools_first__not_on_path__anvil_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    own_tools_first()
    own_tools_first()
    assert shutil.which("anvil") is not None
    assert os.environ["PATH"].endswith(f"{os.pathsep}/usr/bin")
    assert os.environ["PATH"].count(os.pathsep) == 1


def test_ask__no_terminal__question_without_its_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(CommandError, match=r"^Register: nobody is there to ask"):
        ConsoleUi().ask("Register?")


def test_alone__second_deploy_for_one_registry__refused_by_its_process(tmp_path: Path) -> None:
    with deploy.alone(tmp_path, 1):
        with fails_as(Code.COMMAND_RUNNING) as caught, deploy.alone(tmp_path, 1):
            pass
        assert f"process {os.getpid()}" in str(caught.value)
        with deploy.alone(tmp_path, 2), deploy.alone(tmp_path / "other", 1):
            pass  # another chain, another registry
    with deploy.alone(tmp_path, 1):
        pass


def _keyfile(home: Path, alias: str) -> KeyfileAccount:
    account = Account.create()
    encrypted = Account.encrypt(account.key, "pass", kdf="pbkdf2", iterations=1_000)
    file = home / f"{alias}.json"
    file.write_text(json.dumps(encrypted))
    return KeyfileAccount(keyfile_path=file)


@pytest.mark.parametrize("what", ["unlock", "a message", "a transaction"])
def test_passphrase__asked_for__nothing_moves_over_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whatever is signed first, and whatever the command was doing."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    seen: list[bool] = []
    with ConsoleUi() as ui:

        def moves() -> bool:
            return any(
                isinstance(thread, threading.Timer) and not thread.finished.is_set()
                for thread in threading.enumerate()
            )

        def asks(*_: object, **__: object) -> str:
            seen.append(moves())
            return "pass"

        monkeypatch.setattr("ape_accounts.accounts.click.prompt", asks)
        signer = ApeSigner(_keyfile(tmp_path, "mine"), None, ui.pause)
        ui.doing("waiting until the transaction is mined")
        assert moves()
        if what == "unlock":
            signer.unlock()
        elif what == "a message":
            signer.sign_message(encode_defunct(text="hello"))
        else:
            with pytest.raises(AttributeError):  # no network is there to make one for
                signer.sign_transaction(
                    cast(
                        Any,
                        SimpleNamespace(
                            chain_id=1,
                            nonce=1,
                            gas=1,
                            value=0,
                            data=b"",
                            to=None,
                            offer=Offer(1, 1, False),
                        ),
                    )
                )
    assert seen == [False]


def test_transact__asks_before_it_says_that_it_waits() -> None:
    said: list[str] = []
    signer = SimpleNamespace(unlock=lambda: said.append("passphrase"))
    sender = SimpleNamespace(signer=signer, send=_stop)
    ui = SimpleNamespace(doing=lambda text: said.append(text))
    with pytest.raises(KeyboardInterrupt):
        transact(
            cast(Any, sender), cast(Any, ui), "post", cast(Any, SimpleNamespace(address="")), b""
        )
    assert said == ["passphrase", "post: waiting until the transaction is mined"]


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


_LOADED = """
import json
import sys

from ape._cli import cli
from click.testing import CliRunner

told = []
for line in json.load(sys.stdin):
    shown = CliRunner(mix_stderr=False).invoke(cli, ["run", *line.split()])
    heavy = {"web3", "ape.managers", "ape.api", "ape_accounts", "eth_account"} & set(sys.modules)
    told.append([shown.exit_code, sorted(heavy), shown.stderr.strip()])
print(json.dumps(told))
"""


def _ape(*lines: str) -> list[tuple[int, list[str], str]]:
    """Of each command, one after the other in a new process: its exit code, the heavy libraries
    that are loaded by then, and what stands on stderr.
    """
    done = subprocess.run(
        [sys.executable, "-c", _LOADED],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    return [(code, heavy, said) for code, heavy, said in json.loads(done.stdout)]


def test_options__read_before_ape_is_loaded__and_then_a_line_at_once() -> None:
    wrong = {
        "job post examples/finetune-digits --price two": "--price: 'two' is not an amount",
        "job wait what": "JOB: 'what' is not a job id",
        "job hire examples/finetune-digits --provider me": "--provider: 'me' is not an address",
        "provider stake much --account me": "AMOUNT: 'much' is not an amount",
        "provider set-endpoint here": "URL: give an http(s) URL",
        "rewards set-weights lots": "WEIGHTS: 'lots' is not an amount",
        "job post examples/finetune-digits": "Missing option '--price'",
        "dispute next": "Missing argument 'JOB'",
        "deploy --dry": "No such option: --dry",
    }
    *refused, listed = _ape(*wrong, "job list --network ethereum:local:http://127.0.0.1:9")
    for line, (code, heavy, said) in zip(wrong, refused, strict=True):
        assert (code, heavy) == (Exit.INPUT, []), line
        assert wrong[line] in said
    code, heavy, said = listed
    assert code == Exit.UNAVAILABLE and "web3" in heavy
    assert said.startswith("starting Ape ...") and "no RPC endpoint answers" in said


@pytest.mark.parametrize("kept", [None, Path("kept/here")])
def test_farewell__says_what_is_left_and_what_to_try_next(kept: Path | None) -> None:
    shown = io.StringIO()
    stage = SimpleNamespace(console=Console(file=shown, width=200), started=0.0)
    Stage.farewell(cast(Any, stage), "a ruling that is right", kept, "Next: make demo.")
    done, left = shown.getvalue().strip().splitlines()
    assert done.startswith("Done in ") and done.endswith("a ruling that is right.")
    assert left.endswith("Next: make demo.")
    assert ("kept/here" in left) == (kept is not None) and ("removed" in left) == (kept is None)
