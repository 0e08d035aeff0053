# SPDX-License-Identifier: Apache-2.0
"""The lint against decisions by words finds the old faults and lets honest code pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import words


@pytest.mark.parametrize(
    "line",
    [
        # What this project once had.
        'if "inputs are missing" not in str(refusal): raise',
        'if note == "accepting": pass',
        'if note and not note.startswith("waiting for"): pass',
        'if "insufficient funds" in error.message.lower(): pass',
        # Others of the kind.
        'if "x" in message: pass',
        'if row.note != "paid": pass',
        'if str(error).startswith("jobs:"): pass',
        'if str(error).lower().endswith("later"): pass',
        'if answer["message"] == "no": pass',
        'if "no" in answer.get("note"): pass',
        'if note in ("accepting", "running"): pass',
        'if re.search("in use", str(error)): pass',
        'if error.args == ("gone",): pass',
        'if f"{name} is gone" in detail: pass',
        "if WAITING in note: pass",
        'match str(error):\n    case "gone": pass',
    ],
)
def test_decisions__by_words__found(line: str) -> None:
    assert len(words.decisions(line)) == 1


def test_decisions__of_a_caught_exception__by_whatever_name() -> None:
    source = 'try: f()\nexcept OSError as odd:\n    if "denied" in str(odd): pass\n'
    assert [number for number, _ in words.decisions(source)] == [3]
    assert words.decisions('if "denied" in str(odd): pass') == []


@pytest.mark.parametrize(
    "line",
    [
        "if refusal.code is Code.INPUTS_MISSING: pass",
        "if known.note != note: log(note)",
        'if note == "": pass',
        "if not note: pass",
        'if message["type"] == "http.response.start": pass',
        'if "x" in names: pass',
        'if line.startswith("Pss:"): pass',
        "raise Refused(code, str(error))",
        'pytest.raises(LocalError, match="in use")',
        'short = note.partition(":")[0]',
    ],
)
def test_decisions__by_codes_and_types__pass(line: str) -> None:
    assert words.decisions(line) == []


def test_sources__nothing_decides_by_words_and_only_rpc_is_exempt() -> None:
    assert words.main([]) == 0
    looked_at = {path.relative_to(words.ROOT).as_posix() for path in words.sources()}
    assert "teraproof/client/jobs.py" in looked_at and "scripts/market/stage.py" in looked_at
    assert not any(name.startswith("teraproof/rpc/") for name in looked_at)


def test_main__file_that_decides_by_words__named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text('x = 1\nif "x" in message: pass\n')
    assert words.main([str(bad)]) == 1
    assert f"{bad}:2: decides by words" in capsys.readouterr().err
