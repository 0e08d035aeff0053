# SPDX-License-Identifier: Apache-2.0
"""The frame of the commands: one document with --json, one line for an error, nothing heavy at
start, and no two commands for one account.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from teraproof.cli import frame
from teraproof.cli.keyhost import KeyHost
from teraproof.cli.main import _GROUPS, main
from teraproof.cli.ui import ConsoleUi
from teraproof.errors import CommandError, Declined
from teraproof.market import sending
from teraproof.market.chain import Chain
from teraproof.protocol.errors import Code, Exit
from tests.support.anvil import ROOT
from tests.support.codes import fails_as


def run(line: str, **environment: str) -> Result:
    return CliRunner().invoke(main, line.split(), env=environment)


def error_of(result: Result, kind: Exit) -> str:
    assert result.exit_code == kind, result.output
    lines = result.output.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines, result.output
    return lines[0]


@pytest.mark.parametrize("name", [*_GROUPS])
def test_groups__every_command_explains_itself_and_speaks_json(name: str) -> None:
    group = main.get_command(click.Context(main), name)
    assert group is not None
    assert group.help == _GROUPS[name]
    for command in group.commands.values() if isinstance(group, click.Group) else [group]:
        assert command.help
        assert "--json" in {text for param in command.params for text in param.opts}


def test_help__heavy_libraries_are_not_loaded() -> None:
    """What makes a start slow is what it imports."""
    code = (
        "import sys; from teraproof.cli.main import main\n"
        "try: main(['job', 'post', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'eth_account', 'httpx', 'httpcore', 'jsonschema', 'pydantic', 'rich', 'numpy',"
        " 'ape', 'web3', 'vyper', 'boa'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("job list", "pass --rpc-url URL, or export TERAPROOF_RPC_URL"),
        ("job list --rpc-url ftp://x", "--rpc-url: give an http(s) URL"),
        ("provider withdraw --receiver 0x12", "--receiver: '0x12' is not an address"),
    ],
)
def test_input__missing_or_wrong__one_line(line: str, said: str) -> None:
    assert said in error_of(run(line), Exit.INPUT)


def test_rpc__closed_port__unavailable_within_the_deadline() -> None:
    said = error_of(run("job list --rpc-url http://127.0.0.1:9"), Exit.UNAVAILABLE)
    assert "no RPC endpoint answers" in said and "check the RPC URL" in said


class Stub(KeyHost):
    """Opens sessions without a chain."""

    def open(self, needs: frame.Needs, chosen: Any, ui: ConsoleUi) -> frame.Session:
        def nothing(*_: object) -> Any:
            raise AssertionError("not asked for")

        return frame.Session(ui, Path(), nothing, nothing, program="x")


def bound(body: Any) -> click.Group:
    group = click.Group("g")

    @frame.command(group, frame.Needs.CHAIN, "do")
    @click.argument("word")
    def do(session: frame.Session, word: str) -> frame.Result:
        """Do it."""
        return cast(frame.Result, body(session, word))

    return frame.bind(group, Stub())


def test_json__result_and_notes_are_one_document_and_nothing_else() -> None:
    def body(session: frame.Session, word: str) -> Any:
        session.ui.step("done")
        session.ui.table("T", ("a",), [("b",)])
        session.ui.note("worth knowing")
        return {"word": word}

    shown = CliRunner().invoke(bound(body), ["do", "yes", "--json"])
    assert json.loads(shown.stdout) == {"word": "yes", "notes": ["worth knowing"]}
    plain = CliRunner().invoke(bound(body), ["do", "yes"])
    assert "done" in plain.stdout and "worth knowing" in plain.stdout


def test_json__error__has_its_code_and_details_and_the_exit_code_of_its_kind() -> None:
    def body(session: frame.Session, word: str) -> Any:
        raise CommandError("the job failed", Code.JOB_FAILED, reason=word)

    shown = CliRunner().invoke(bound(body), ["do", "memory", "--json"])
    assert shown.exit_code == Exit.JOB_FAILED
    said, _, document = shown.output.partition("{")
    assert said == "error: the job failed\n"
    assert json.loads("{" + document)["error"] == {
        "code": "job_failed",
        "message": "the job failed",
        "retryable": False,
        "details": {"reason": "memory"},
    }


def test_recursion__raised_by_a_library__is_bounded_before_strangers_answer() -> None:
    before = sys.getrecursionlimit()

    def body(session: frame.Session, word: str) -> Any:
        return {"limit": sys.getrecursionlimit()}

    try:
        sys.setrecursionlimit(100_000)
        shown = CliRunner().invoke(bound(body), ["do", "x", "--json"])
    finally:
        sys.setrecursionlimit(before)
    assert json.loads(shown.output)["limit"] <= 1_000


def test_bug__keeps_its_traceback() -> None:
    def body(session: frame.Session, word: str) -> Any:
        raise ZeroDivisionError

    shown = CliRunner().invoke(bound(body), ["do", "x"])
    assert isinstance(shown.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("error", "kind"), [(Declined(), Exit.REFUSED), (KeyboardInterrupt(), Exit.INTERRUPTED)]
)
def test_stopped__exit_code_says_so(error: BaseException, kind: Exit) -> None:
    def body(session: frame.Session, word: str) -> Any:
        raise error

    shown = CliRunner().invoke(bound(body), ["do", "x"])
    assert shown.exit_code == kind and shown.output.startswith("error: ")


def test_hold__second_command_for_one_account__names_the_process() -> None:
    chain = cast(Chain, SimpleNamespace(chain_id=31337, genesis=lambda: "0x" + "ab" * 32))
    address = "0x" + "17" * 20
    with sending.hold(chain, address):
        code = (
            "from types import SimpleNamespace as N; from teraproof.market import sending\n"
            "chain = N(chain_id=31337, genesis=lambda: '0x' + 'ab' * 32)\n"
            f"try: sending.hold(chain, {address!r}).__enter__()\n"
            "except Exception as error: print(error.code, error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("command_running another command is sending")
        with fails_as(Code.COMMAND_RUNNING), sending.hold(chain, address):
            pass
        with sending.hold(chain, "0x" + "18" * 20):
            pass  # another account is nobody's business
    with sending.hold(chain, address):
        pass  # free again


COLUMNS = ("job", "status", "next", "name", "price", "provider")
ROWS = [
    (
        "0x" + "ab" * 8,
        "assigned",
        "open until 2026-11-29 20:55:45 UTC (in 3 h 4 min)",
        "finetune-digits",
        "0.033334 tUSD",
        "0x" + "11" * 20,
    ),
    ("0x" + "cd" * 8, "settled", "paid 2 tUSD", "pytorch-cuda", "2 tUSD", ""),
]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_table__any_width__no_word_is_cut_and_nothing_is_left_out(width: int) -> None:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    ConsoleUi(console=console).table("Jobs", COLUMNS, ROWS)
    file = console.file
    assert isinstance(file, io.StringIO)
    shown = file.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= width
    words = {word for row in (COLUMNS, *ROWS) for cell in row for word in cell.split()}
    for word in words:
        if len(word) <= 24:  # an address goes on in the next line
            assert word in shown
    digits = "".join(letter for letter in shown if letter in "01x")
    assert digits.count("1") >= 40  # it is all there


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("job status 0xzz --json", "JOB: '0xzz' is not a job id"),
        ("job status --json", "Missing argument 'JOB'"),
        ("job list --json --no-such", "No such option: --no-such"),
        ("provider stake much --json", "AMOUNT: 'much' is not an amount"),
    ],
)
def test_json__command_line_that_cannot_be_read__a_document_too(line: str, said: str) -> None:
    shown = CliRunner(mix_stderr=False).invoke(main, line.split())
    assert shown.exit_code == Exit.INPUT
    error = json.loads(shown.stdout)["error"]
    assert error["code"] == "input_invalid" and said in error["message"]
    plain = CliRunner(mix_stderr=False).invoke(main, line.replace("--json", "").split())
    assert plain.exit_code == Exit.INPUT and plain.stdout == "" and said in plain.stderr
