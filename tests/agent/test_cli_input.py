# SPDX-License-Identifier: Apache-2.0
"""Wrong input at the agent's commands: one line and exit code 2, whatever command and option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from eth_account import Account

from provider_agent.cli import main as cli
from teraproof.protocol.errors import Exit
from tests.support import keystores

A = str(Account.from_key(b"\x01" * 32).address)
#: What the other options are given, where a command needs them.
MEANT = {
    "rpc_urls": "http://127.0.0.1:1",
    "owner": A,
    "folder": "/proc/nowhere/backup",
    "challenge": "ab" * 32,
    "size": "256",
    "blocks": "1",
    "rounds": "1",
}
WRITTEN = {"output", "json_file", "plot_file"}
ADDRESSES = ("--chain-id", 31337, "--staking", A, "--jobs", A)


def call(*words: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(cli.main, [str(word) for word in words])


def line_of(shown: Result) -> str:
    """The one line of a command that met wrong input."""
    said = [line for line in shown.output.splitlines() if line.lower().startswith("error: ")]
    assert isinstance(shown.exception, SystemExit), shown.output
    assert (shown.exit_code, len(said)) == (Exit.INPUT, 1), shown.output
    return said[0]


def files() -> list[Any]:
    """Every option of every command that names a file."""
    context = click.Context(cli.main)
    found = [
        (name, cli.main.get_command(context, name)) for name in cli.main.list_commands(context)
    ]
    return [
        pytest.param(name, command, one, id=f"{name}-{one.name}")
        for name, command in found
        if command is not None
        for one in command.params
        if isinstance(one.type, click.Path) and one.name not in ("docker_socket", "folder")
        if (name, one.name) != ("restore", "config")  # a backup is read first
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings and a key, as `init` makes them."""
    folder = tmp_path_factory.mktemp("home")
    file = folder / "provider.toml"
    with keystores.weak():
        made = call("init", "--config", file, "--rpc-url", "http://127.0.0.1:1", *ADDRESSES)
    assert made.exit_code == 0, made.output
    return folder


def words_beside(
    home: Path, tmp_path: Path, command: click.Command, wrong: click.Parameter
) -> list[object]:
    """Everything that a command needs but the option that is wrong."""
    words: list[object] = []
    for one in command.params:
        if one is wrong or one.name == "config":
            continue
        if one.required:
            option = [one.opts[0]] if isinstance(one, click.Option) else []
            words += [*option, MEANT[one.name or ""]]
    if command.name == "consent":
        words += ["--nonce", 0]
    if wrong.name != "config" and any(one.name == "config" for one in command.params):
        file = tmp_path / "new.toml" if command.name == "init" else home / "provider.toml"
        words += ["--config", file]
    if command.name == "init" and wrong.name == "config":
        words += ADDRESSES
    return words


@pytest.mark.parametrize(("name", "command", "wrong"), files())
def test_file__cannot_be_read_or_written__one_line(
    home: Path, tmp_path: Path, name: str, command: click.Command, wrong: click.Parameter
) -> None:
    (tmp_path / "file").write_text("plain words")
    (tmp_path / "deep").write_text("[" * 200_000)
    paths = [tmp_path / "file" / "below", tmp_path / ("n" * 300), tmp_path]
    if wrong.name not in WRITTEN:
        paths += [tmp_path / "file", tmp_path / "deep"]
        if name != "init":
            paths.append(tmp_path / "absent")
    words = words_beside(home, tmp_path, command, wrong)
    for path in paths:
        said = line_of(call(name, f"{wrong.opts[0]}={path}", *words))
        assert str(path)[:80] in said


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_directory_of_a_backup__cannot_be_used__one_line(
    home: Path, tmp_path: Path, name: str
) -> None:
    (home / "agent-data").mkdir(exist_ok=True)
    (home / "agent-data" / "agent.sqlite").touch()
    (tmp_path / "file").write_text("plain words")
    for path in (tmp_path / "file" / "below", tmp_path / ("n" * 300), tmp_path / "file"):
        line_of(call(name, "--config", home / "provider.toml", path))


def test_variable__names_a_missing_file__is_named(home: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.json"
    words = ("consent", "--config", home / "provider.toml", "--owner", A, "--nonce", 0)
    said = line_of(call(*words, TERAPROOF_OPERATOR__KEYSTORE=str(absent)))
    assert "TERAPROOF_OPERATOR__KEYSTORE: " in said and str(absent) in said


def test_bug__keeps_its_traceback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("provider_agent.settings.load", broken)
    shown = call("status", "--config", home / "provider.toml")
    assert isinstance(shown.exception, ZeroDivisionError)
