# SPDX-License-Identifier: Apache-2.0
"""What is wrong on this machine is said at once: no node has to answer for it. All lease commands
are walked with their options as they stand, so that a new one is tried, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from teraproof.cli.main import main
from teraproof.protocol.errors import Exit
from tests.support.sdl import SMALL, changed

AWAY = "http://127.0.0.1:9"
OWNER = "0x" + "11" * 20
LEASE = "0x" + "ab" * 32
SOUND = {
    "lease_id": LEASE,
    "provider_id": OWNER,
    "port": "80",
    "outer": "80",
}
#: Texts that mean nothing to the chain's clients until it is asked; or names of the file's.
ANY_TEXT = {"group", "region", "service", "user", "words", "rpc_url"}
#: Not looked at next to a key file, or wrong together with it.
ELSEWHERE = {"password_file", "keystore"}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def small(tmp_path: Path) -> str:
    file = tmp_path / "small.yaml"
    volumes = "storage: [{size: 1Gi}, {size: 1Gi, name: work}]"
    text = changed(SMALL, "storage:\n          size: 1Gi", volumes).decode()
    mounts = "    params: {storage: {work: {mount: /d}}}\n"
    file.write_bytes(changed(text, "profiles:\n  compute", f"{mounts}profiles:\n  compute"))
    return str(file)


@pytest.fixture
def signs(tmp_path: Path) -> list[str]:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("11" * 32)
    (tmp_path / "deployments").mkdir()
    return [f"--key-file={key}", f"--deployments={tmp_path / 'deployments'}"]


def commands() -> Iterator[tuple[str, click.Command]]:
    group = main.get_command(click.Context(main), "lease")
    assert isinstance(group, click.Group)
    yield from group.commands.items()


def wrong() -> list[Any]:
    return [
        pytest.param(name, made, one, id=f"{name}-{one.name}")
        for name, made in commands()
        for one in made.params
        if not getattr(one, "is_flag", False) and one.name not in ANY_TEXT | ELSEWHERE
    ]


def said(words: list[str]) -> str:
    """The one line of a refusal for what is wrong here."""
    shown = CliRunner().invoke(main, ["lease", *words])
    assert shown.exit_code == Exit.INPUT, shown.output
    lines = shown.output.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), shown.output
    assert "RPC" not in lines[0]
    return lines[0]


def words_of(made: click.Command, bad: click.Parameter | None, file: str) -> list[str]:
    wrong_text = "a lot" if bad is not None and bad.name == "amount" else "2 parsecs"
    arguments = [
        wrong_text if one is bad else (file if one.name == "file" else SOUND[one.name or ""])
        for one in made.params
        if isinstance(one, click.Argument) and one.name != "words"
    ]
    return (
        [f"{bad.opts[0]}={wrong_text}", *arguments] if isinstance(bad, click.Option) else arguments
    )


def signed(made: click.Command, bad: click.Parameter | None, signs: list[str]) -> list[str]:
    known = {one.opts[0] for one in made.params if one is not bad}
    given = [word for word in signs if word.partition("=")[0] in known]
    return given + ([f"--rpc-url={AWAY}"] if "--rpc-url" in known else [])


@pytest.mark.parametrize(("name", "made", "bad"), wrong())
def test_wrong_value__no_node_is_needed_to_say_so(
    name: str, made: click.Command, bad: click.Parameter, small: str, signs: list[str]
) -> None:
    said([name, *signed(made, bad, signs), *words_of(made, bad, small)])


@pytest.mark.parametrize(("name", "made"), list(commands()))
def test_nothing_wrong__it_is_the_node_that_does_not_answer(
    name: str, made: click.Command, small: str, signs: list[str]
) -> None:
    if name == "check":
        pytest.skip("needs no node")
    words = [name, *signed(made, None, signs), *words_of(made, None, small)]
    shown = CliRunner().invoke(main, ["lease", *words])
    assert shown.exit_code == Exit.UNAVAILABLE, shown.output


def test_lines__say_what_to_do(small: str, signs: list[str], tmp_path: Path) -> None:
    chain = [*signs, f"--rpc-url={AWAY}"]
    assert "LEASE: 'zzz' is not a lease id; give at least 6 of its hex digits" in said(
        ["status", "zzz", *chain]
    )
    assert "PROVIDER" in said(["hire", small, "0x12", *chain])
    assert "give --plain, or --certificate and --key" in said(
        ["publish", LEASE, "80", "--plain", "--key", small, *chain]
    )
    nowhere = str(tmp_path / "nofile")
    assert "nofile" in said(
        ["publish", LEASE, "80", "--certificate", nowhere, "--key", nowhere, *chain]
    )
    assert "LEASE" in said(["close", *chain])
    assert "give --access FILE, or set AWS_" in said(
        ["watch", LEASE, "--checkpoints", "s3://bucket/run", *chain]
    )


@pytest.mark.parametrize("name", ["hire", "open"])
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["web:/d=s3://my-bucket"], "name a prefix of its own, such as s3://my-bucket/run"),
        (["web:/d=s3://my-bucket/"], "name a prefix of its own, such as s3://my-bucket/run"),
        (["web:/d=s3://b/run"], "the URI's bucket has a wrong name; give 3 to 63"),
        (["web:/d=s3://me:secret@bucket/run"], "give credentials by --access"),
        (["web:/d=s3://bucket/run", "--checkpoint-every=1"], "give 5 seconds to 7 days"),
        (["web:/d=s3://bucket/run", "--checkpoint-every=8 days"], "give 5 seconds to 7 days"),
        (["page:/d=s3://bucket/run"], "give --access FILE, or set AWS_ACCESS_KEY_ID"),
    ],
)
def test_checkpoints__what_cannot_be_saved__nothing_is_asked(
    name: str, options: list[str], line: str, small: str, signs: list[str]
) -> None:
    provider = [OWNER] if name == "hire" else []
    wanted = ["--checkpoints", *options, *signs, f"--rpc-url={AWAY}"]
    found = said([name, small, *provider, *wanted])
    assert line in found and "secret" not in found


@pytest.mark.parametrize(
    "words", [["close"], ["connect", LEASE, "70000"], ["status", "--nosuch"], ["nosuch"]]
)
def test_command_line_that_cannot_be_read__one_line_and_one_document(words: list[str]) -> None:
    line = said(words)
    shown = CliRunner().invoke(main, ["lease", *words, "--json"])
    assert shown.exit_code == Exit.INPUT
    error = json.loads(shown.output[shown.output.index("{") :])["error"]
    assert error["code"] == "input_invalid" and error["message"] in line
