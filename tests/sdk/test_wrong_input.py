# SPDX-License-Identifier: Apache-2.0
"""Whatever a person names wrongly, at whatever command: one line, exit code 2, nothing sent.

All commands are walked with their options as they stand, so that a new one is tried, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from teraproof.cli.frame import ADDRESS
from teraproof.cli.main import _GROUPS, main
from teraproof.cli.values import Value
from teraproof.market import registry
from teraproof.market.chain import Chain
from teraproof.protocol.errors import Exit
from tests.sdk.person import EXAMPLE, Person
from tests.support.anvil import ROOT

NOBODY = "0x" + "11" * 20
JOB = "0x" + "ab" * 32
#: What a person could have meant: nothing is wrong with it but that it is not there.
MEANT = {
    "package": EXAMPLE,
    "job_id": JOB,
    "amount": "1",
    "price": "1",
    "to": NOBODY,
    "owner": NOBODY,
    "receiver": NOBODY,
    "file": str(ROOT / "README.md"),
    "first": str(ROOT / "examples" / "absent"),
    "url": "http://127.0.0.1:9",
    "uri": "file:///proc/nowhere/at/all",
    "sha256": "ab" * 32,
    "size": "1",
    "seats": "1",
    "capability": "batch|python-ml|cpu",
    "weights": "100",
    "max_lock_per_order": "1",
    "max_locked": "1",
}
#: Frames of their own, with their own tests.
OTHERS = ("storage", "checkpoint", "lease", "channel")
#: Options and arguments that any text fits, or the name of any file.
ANY_TEXT = {
    ("provider", "list", "gpu"),
    ("provider", "list", "runtime"),
    ("models", "", "model"),
    ("gateway", "init", "config"),  # a file that it writes
}
NONSENSE = ("?", "", "-1", "1e99", "nan", "x" * 5_000, "é\x1b[2J", "http://[", "1 1")
#: Files that are read once the job is known, and it is not there.
AFTER_THE_JOB = ("first", "second")
#: Files that are written, so that they need not be there.
WRITTEN = {"output", "keystore", "password_file"}


def commands() -> Iterator[tuple[str, str, click.Command]]:
    context = click.Context(main)
    for group in _GROUPS:
        found = main.get_command(context, group)
        assert found is not None
        if not isinstance(found, click.Group):
            yield group, "", found
            continue
        for name, command in found.commands.items():
            yield group, name, command


def cases(wanted: Callable[[click.Parameter], bool]) -> list[Any]:
    """Every parameter of that kind of every command."""
    return [
        pytest.param(group, name, command, one, id=f"{group}-{name}-{one.name}")
        for group, name, command in commands()
        for one in command.params
        if wanted(one) and (group, name, one.name) not in ANY_TEXT
    ]


def line(command: click.Command, wrong: click.Parameter, value: str) -> list[str]:
    """The words of a command with one value that is wrong."""
    words: list[str] = []
    for one in command.params:
        given = value if one is wrong else MEANT.get(one.name or "", "/proc/nowhere")
        if isinstance(one, click.Argument):
            words += ["--", given] if given.startswith("-") else [given]
        elif one is wrong or one.required:
            words += [f"{one.opts[0]}={given}"]
    options = [word for word in words if "=" in word and word.startswith("--")]
    return [*options, *(word for word in words if word not in options)]


def is_refused(
    person: Person, group: str, name: str, command: click.Command, words: list[str]
) -> str:
    """What is said; fails unless it is one line and the exit code of wrong input."""
    signs = [] if group == "key" or not has_account(command) else person.key
    shown = person.run(*filter(None, (group, name)), *signs, *words)
    said = [text for text in shown.output.splitlines() if text.lower().startswith("error: ")]
    assert len(said) == 1, shown.output
    assert "Traceback" not in shown.output
    if group in OTHERS:
        assert shown.exit_code != 0
    else:
        assert shown.exit_code == Exit.INPUT, shown.output
    return said[0]


def has_account(command: click.Command) -> bool:
    return "key_file" in {one.name for one in command.params}


@pytest.fixture(scope="module", autouse=True)
def looked_for_once() -> Iterator[None]:
    """The contracts of a deployment, which thousands of commands would look for on the chain."""
    known: dict[str, str | None] = {}
    look = registry.missing_code

    def missing_code(of: registry.Registry, chain: Chain) -> str | None:
        named = of.model_dump_json()
        if named not in known:
            known[named] = look(of, chain)
        return known[named]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "missing_code", missing_code)
        yield


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths that are not what they should be."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "file").write_text("plain words")
    (folder / "bytes").write_bytes(bytes(range(256)))
    (folder / "deep").write_text("[" * 200_000)
    (folder / "empty").write_text("")
    (folder / "number").write_text("7")
    for one in folder.iterdir():
        one.chmod(0o600)
    return {
        "missing": folder / "absent",
        "below a file": folder / "file" / "x",
        "long": folder / ("n" * 300),
        "directory": folder,
        **{one.name: one for one in folder.iterdir()},
    }


@pytest.mark.parametrize(
    ("group", "name", "command", "wrong"),
    cases(lambda one: isinstance(one.type, click.Path) and one.name not in WRITTEN),
)
def test_file__not_what_it_should_be__refused(
    tenant: Person,
    odd: dict[str, Path],
    group: str,
    name: str,
    command: click.Command,
    wrong: click.Parameter,
) -> None:
    before = tenant.anvil.nonce(tenant.account)
    shared = wrong.name in ("key_file", "deployments")  # one reader for all commands
    for path in [odd["missing"]] if shared and name != "list" else odd.values():
        words = line(command, wrong, str(path))
        said = is_refused(tenant, group, name, command, words)
        if group not in OTHERS and wrong.name not in AFTER_THE_JOB and path.name == "absent":
            assert str(path) in said
    assert tenant.anvil.nonce(tenant.account) == before


@pytest.mark.parametrize(
    ("group", "name", "command", "wrong"),
    cases(lambda one: one.type in (click.STRING, ADDRESS) or isinstance(one.type, Value)),
)
def test_text__not_what_it_should_be__refused(
    tenant: Person,
    group: str,
    name: str,
    command: click.Command,
    wrong: click.Parameter,
) -> None:
    before = tenant.anvil.nonce(tenant.account)
    for text in NONSENSE:
        is_refused(tenant, group, name, command, line(command, wrong, text))
    assert tenant.anvil.nonce(tenant.account) == before


@pytest.mark.parametrize("variable", ["TERAPROOF_KEY_FILE", "TERAPROOF_DEPLOYMENTS"])
def test_variable__names_a_missing_file__is_named(
    tenant: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """People forget what they have exported."""
    absent = tmp_path / "absent"
    environment = {
        "TERAPROOF_RPC_URL": tenant.anvil.url,
        "TERAPROOF_DEPLOYMENTS": str(tenant.home / "deployments"),
        variable: str(absent),
    }
    shown = CliRunner(env=environment).invoke(main, ["job", "withdraw"])
    assert shown.exit_code == Exit.INPUT
    assert f"error: {variable}: " in shown.output and str(absent) in shown.output
    # An option that was typed is named as well; a default is not.
    words = ["job", "list", "--rpc-url", tenant.anvil.url, "--deployments", str(absent)]
    assert "error: --deployments: " in CliRunner().invoke(main, words).output
    monkeypatch.chdir(tmp_path)
    plain = CliRunner().invoke(main, words[:4]).output
    assert ": deployments is not there" in plain


def test_deployments__of_another_chain__says_which(tenant: Person, tmp_path: Path) -> None:
    file = tenant.home / "deployments" / "31337.json"
    other = tmp_path / "5.json"
    other.write_text(file.read_text().replace('"chain_id": 31337', '"chain_id": 5'))
    shown = tenant.run("job", "list", "--deployments", str(other))
    assert shown.exit_code == Exit.INPUT
    assert "is the deployment on chain 5, but the node is on chain 31337" in shown.output


def test_amount__nothing__the_least_is_said(tenant: Person) -> None:
    for group, name in (("tokens", "send"), ("tokens", "mint")):
        more = ("--to", NOBODY) if name == "send" else ()
        said = tenant.fails(Exit.INPUT, group, name, "0", *more)
        assert "AMOUNT" in said
