# SPDX-License-Identifier: Apache-2.0
"""Tokens that a host bills are counted again where the model's tokenizer is at hand. A host that
bills more than it sent is found; one that does not is left in peace.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from eth_account import Account

from teraproof.cli.main import main
from teraproof.gateway import attempt, examine
from teraproof.gateway.identity import Answer, Fault
from teraproof.gateway.identity import recount as recounts
from teraproof.gateway.identity.recount import SLACK, count, most_tokens
from teraproof.protocol.errors import Code, Exit
from tests.sdk.gateway.played import Habit, Played
from tests.sdk.gateway.rig import Rig, running
from tests.support.anvil import ROOT

MODEL = "model-a"
CHEAP, DEAR = (1_000, 2_000, 0), (1_000_000, 2_000_000, 0)
NO_CANARIES = {"canary_rate": 0}


class Words:
    """A tokenizer of words, as the played hosts have it."""

    def count(self, text: str) -> int:
        return len(text.split())


COUNTERS = {MODEL: Words()}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def fault(rig: Rig, owner: str) -> Fault | None:
    while rig.gateway.relay._tasks:
        await asyncio.gather(*rig.gateway.relay._tasks)
    return rig.gateway.relay.lineups.verdict(owner, MODEL).fault


def test_host_that_bills_more_than_it_sent__is_found_and_asked_no_more(tmp_path: Path) -> None:
    with (
        Played(price=CHEAP, habit=Habit(words=40, bills_more=0.5)) as bad,
        Played(price=DEAR, habit=Habit(words=40)) as good,
    ):

        async def counted() -> None:
            async with running(
                tmp_path / "a", [bad, good], route=NO_CANARIES, counters=COUNTERS
            ) as rig:
                for _ in range(8):
                    assert (await rig.chat()).status_code == 200
                    await fault(rig, bad.owner)
                assert await fault(rig, bad.owner) is Fault.OVERCOUNTS
                assert await fault(rig, good.owner) is None
                asked = bad.asked
                assert asked < 8
                answer = await rig.chat()
                assert answer.headers["teraproof-provider"] == good.owner
                assert bad.asked == asked

        async def uncounted() -> None:
            """By bytes alone nothing is against it: this is what the tokenizer is for."""
            async with running(tmp_path / "b", [bad, good], route=NO_CANARIES) as rig:
                for _ in range(8):
                    assert (await rig.chat()).status_code == 200
                assert await fault(rig, bad.owner) is None

        run(counted())
        run(uncounted())


@pytest.mark.parametrize("kept", [1 << 18, 2_000])
def test_honest_host__long_streams_and_stops__nothing_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """Also where only the beginning of an answer is kept: what is not here was charged rightly."""
    monkeypatch.setattr(attempt, "_KEPT", kept)
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    with Played(habit=Habit(words=60)) as one:

        async def work() -> None:
            async with running(tmp_path, [one], route=NO_CANARIES, counters=COUNTERS) as rig:
                for _ in range(8):
                    await rig.words()
                    assert (await rig.chat()).status_code == 200
                    assert await fault(rig, one.owner) is None
                if kept < 1 << 18:
                    before = rig.gateway.relay.lineups.share(one.owner, MODEL)
                    await rig.words(response_format=schema)  # half of it is not JSON
                    await fault(rig, one.owner)
                    assert rig.gateway.relay.lineups.share(one.owner, MODEL) == before

        run(work())


def answer(text: str, tokens: int, **more: Any) -> Answer:
    values: dict[str, Any] = {"finish": "stop", "prompt_tokens": 1, "asked": 99, **more}
    return Answer(text=text, completion_tokens=tokens, **values)


def test_stop_sequence__is_charged_and_not_shown() -> None:
    text, stop = "one two three", "a b c d e f g h"
    body = {"stop": ["x", stop], "temperature": 0}
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    data = json.dumps({"choices": [choice]}).encode()

    class Said:
        prompt_tokens, completion_tokens = 1, 11

    found = examine.read(body, [data], Said(), 99, streams=False)  # type: ignore[arg-type] # two numbers of it
    assert found is not None and found.hidden == stop
    assert most_tokens(found, Words()) == 11 + SLACK
    odds: tuple[Any, ...] = ([], None, 7, [7, None], {})
    for odd in odds:
        read = examine.read({"stop": odd}, [data], Said(), 99, streams=False)  # type: ignore[arg-type] # as above
        assert read is not None and read.hidden == ""
    several = examine.read({"best_of": 3}, [data], Said(), 99, streams=False)  # type: ignore[arg-type] # as above
    assert several is not None and not several.whole


def test_text_without_end__is_counted_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recounts, "COUNTED", 5)
    assert count("a b c d e", "", Words()) == 3 + 4
    assert count("a b c d e", "x y", Words()) == 3 + 4 + 2


def test_counted_before__is_not_counted_again() -> None:
    assert most_tokens(answer("a b c " * 100, 9, counted=20), None) == 21 + SLACK


# ---------------------------------------------------------------------- the setting


def test_tokenizer_that_cannot_be_had__is_one_line_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    config, key = tmp_path / "gateway.toml", tmp_path / "me.key"
    assert CliRunner().invoke(main, ["gateway", "init", "--config", str(config)]).exit_code == 0
    config.write_text(
        config.read_text().replace("[tokenizers]\n", '[tokenizers]\n"a/b" = "tokenizer.json"\n')
    )
    key.write_text(Account.create().key.hex())
    key.chmod(0o600)
    line = ["gateway", "--config", str(config), "--key-file", str(key), "--yes", "--json"]
    shown = CliRunner().invoke(main, [*line, "--rpc-url", "http://127.0.0.1:1029"])
    assert shown.exit_code == Exit.INPUT
    assert "error: tokenizers.a/b: a tokenizer needs the package tokenizers: pip" in shown.output
    said = json.loads(shown.output[shown.output.index("{") :])
    assert said["error"]["code"] == Code.EXTRA_MISSING.value


REAL = ROOT / ".venv-models" / "bin" / "python"
SCRIPT = """
import sys
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers
from teraproof.errors import LocalError
from teraproof.gateway.identity.recount import counters
home = Path(sys.argv[1])
made = Tokenizer(models.WordLevel({"one": 0, "two": 1, "?": 2}, unk_token="?"))
made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
made.save(str(home / "tokenizer.json"))
(found,) = counters({"m": home / "tokenizer.json"}).values()
print(found.count("one two one"), found.count(""), found.count("one \\ud800 two"))
(home / "odd.json").write_text("{}")
(home / "bytes.json").write_bytes(b"\\xff")
for name in ("absent.json", "odd.json", "bytes.json"):
    try:
        counters({"m": home / name})
    except LocalError as error:
        print(error.code.value, str(error).partition(str(home))[0], "\\n" in str(error))
"""


def test_real_tokenizer__counts_and_bad_files_are_one_line(tmp_path: Path) -> None:
    if not REAL.exists():
        pytest.skip("the package tokenizers is in no environment here; make models makes one")
    done = subprocess.run(
        [str(REAL), "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    counted, *lines = done.stdout.splitlines()
    assert counted == "3 0 3"
    assert len(lines) == 3
    assert all(line.startswith("input_invalid tokenizers.m: ") for line in lines), lines
    assert all(line.endswith(" False") for line in lines)
