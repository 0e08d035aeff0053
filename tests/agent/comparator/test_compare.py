# SPDX-License-Identifier: Apache-2.0
"""Two results and a rule: the verdict, also where their bytes mean harm, in the real sandbox."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_agent.comparator import compare as module
from provider_agent.comparator.compare import Comparator, Files, Finding, Verdict, by_names
from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB, Phase, Reason, RunState
from provider_agent.runners.process import ProcessRunner
from teraproof.protocol.comparison import Comparison
from teraproof.protocol.digests import encode_manifest, entries, parse_manifest
from tests.support import runs

EXACT = Comparison()
NUMERIC = Comparison("numeric", "1e-5", "0")
Maker = Callable[[str, Mapping[str, bytes]], Files]


def npy(*values: float) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values, "<f4"))
    return file.getvalue()


@pytest.fixture
def made(tmp_path: Path) -> Maker:
    """Writes a result, and reads its files from its manifest as a juror would."""

    def make(name: str, files: Mapping[str, bytes]) -> Files:
        root = tmp_path / name
        root.mkdir()
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return Files(root, parse_manifest(encode_manifest(entries(root))))

    return make


@pytest.fixture(params=["bubblewrap", "none"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessRunner]:
    if request.param == "bubblewrap":
        runs.need_bubblewrap()
    found = runs.make_runner(tmp_path / "data", request.param)
    yield found
    left = found.list()
    for run_id in left:
        found.remove(run_id)
    assert left == ()


@pytest.fixture
def comparator(runner: ProcessRunner, tmp_path: Path) -> Comparator:
    return Comparator(runner, runs.RUNTIME, tmp_path / "plans")


# ------------------------------------------------------------------------ by names alone


def verdict(found: Any) -> Verdict | None:
    return found.verdict if isinstance(found, Finding) else None


@pytest.mark.parametrize("rule", [EXACT, NUMERIC])
def test_by_names__what_no_tolerance_helps(made: Maker, rule: Comparison) -> None:
    ours = made("ours", {"out/a.npy": npy(1), "log.txt": b"x"})
    assert by_names(rule, ours, ours) == Finding(Verdict.EQUAL)
    for number, files in enumerate(
        (
            {"out/a.npy": npy(1)},
            {"out/a.npy": npy(1), "log.txt": b"x", "more.json": b"1"},
            {"out/b.npy": npy(1), "log.txt": b"x"},
            {"out/a.npy": npy(1), "log.txt": b"y"},
            {},
        )
    ):
        theirs = made(f"theirs-{number}", files)
        assert verdict(by_names(rule, ours, theirs)) is Verdict.DIFFERENT
        assert verdict(by_names(rule, theirs, ours)) is Verdict.DIFFERENT


def test_by_names__numbers__only_where_the_rule_has_tolerances(made: Maker) -> None:
    ours, theirs = made("ours", {"a.npy": npy(1)}), made("theirs", {"a.npy": npy(2)})
    assert verdict(by_names(EXACT, ours, theirs)) is Verdict.DIFFERENT
    found = by_names(NUMERIC, ours, theirs)
    assert isinstance(found, list) and [pair.path for pair in found] == ["a.npy"]


def test_by_names__how_a_job_failed__is_no_number(made: Maker) -> None:
    ours = made("ours", {"failure.json": b'{"exit_code":100,"reason":"exited"}'})
    theirs = made("theirs", {"failure.json": b'{"exit_code":101,"reason":"exited"}'})
    rule = Comparison("numeric", "0.9", "100")
    assert verdict(by_names(rule, ours, theirs)) is Verdict.DIFFERENT


def test_by_names__far_longer_than_ours__not_even_opened(
    made: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_MORE", 1000)
    ours, theirs = made("ours", {"a.json": b"1"}), made("theirs", {"a.json": b" " * 2000 + b"1"})
    assert verdict(by_names(NUMERIC, ours, theirs)) is Verdict.DIFFERENT


# ------------------------------------------------------------------------ in the sandbox


def test_compare__rounding_and_lies(comparator: Comparator, made: Maker) -> None:
    ours = made("ours", {"model/w.npy": npy(1, 2), "m.json": b'{"loss":0.5}', "é": b"same"})
    near = made(
        "near", {"model/w.npy": npy(1.000001, 2), "m.json": b'{"loss":0.500001}', "é": b"same"}
    )
    far = made("far", {"model/w.npy": npy(1.1, 2), "m.json": b'{"loss":0.5}', "é": b"same"})
    assert comparator.compare("one", NUMERIC, ours, near) == Finding(Verdict.EQUAL)
    said = comparator.compare("two", NUMERIC, ours, far)
    assert said.verdict is Verdict.DIFFERENT
    assert said.reason == "'model/w.npy': array '' differs at number 0"


def test_compare__broken_bytes__theirs_a_difference_ours_nothing_to_compare(
    comparator: Comparator, made: Maker
) -> None:
    good, bad = made("good", {"a.npy": npy(1)}), made("bad", {"a.npy": npy(1)[:-1]})
    assert comparator.compare("one", NUMERIC, good, bad).verdict is Verdict.DIFFERENT
    assert comparator.compare("two", NUMERIC, bad, good).verdict is Verdict.CANNOT


def test_compare__long_paths(comparator: Comparator, made: Maker) -> None:
    """Paths of the greatest length have to go into the sandbox, too."""
    path = "/".join(["d" * 31] * 31 + ["f" * 20 + ".json"])
    ours, theirs = made("ours", {path: b"[1.0]"}), made("theirs", {path: b"[1.0000001]"})
    assert comparator.compare("one", NUMERIC, ours, theirs) == Finding(Verdict.EQUAL)


def test_compare__more_than_the_memory__only_theirs_is_blamed_for_theirs(
    comparator: Comparator, made: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY_BYTES", 96 * MIB)
    small = made("small", {"a.json": b"[1]"})
    large = made("large", {"a.json": b"[" + b"{}," * (5 << 20) + b"1]"})
    assert comparator.compare("one", NUMERIC, small, large).verdict is Verdict.DIFFERENT
    assert comparator.compare("two", NUMERIC, large, small).verdict is Verdict.CANNOT


def test_compare__modules_next_to_the_program__are_not_imported(
    comparator: Comparator, made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger who could name a file `json.py` would be the judge."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("json.py", "struct.py", "sitecustomize.py"):
        (evil / name).write_text("raise SystemExit('owned')")
    program = evil / "program.py"
    program.write_bytes(module.PROGRAM.read_bytes())
    inputs = {f"{name}.py": evil / f"{name}.py" for name in ("json", "struct", "sitecustomize")}
    request = Comparator._request

    def with_them(self: Comparator, *arguments: Any) -> Any:
        made = request(self, *arguments)
        return type(made).from_json(
            made.to_json()
            | {
                "inputs": {
                    **{k: str(v) for k, v in made.inputs.items()},
                    **{k: str(v) for k, v in inputs.items()},
                }
            }
        )

    monkeypatch.setattr(Comparator, "_request", with_them)
    ours, theirs = made("ours", {"a.json": b"1"}), made("theirs", {"a.json": b"1.0"})
    assert comparator.compare("one", NUMERIC, ours, theirs) == Finding(Verdict.EQUAL)


# ------------------------------------------------------------------------ what the run says


class Runs:
    """A runner whose every run ends as a test says, for what no real one can be made to do."""

    def __init__(self, folder: Path, *ends: RunState | bytes) -> None:
        self.ends, self.folder, self.asked = list(ends), folder, list[Any]()
        self.end: RunState | bytes = b""

    def list(self) -> tuple[str, ...]:
        return ()

    def start(self, run: Any) -> None:
        self.asked.append(run)
        self.end = self.ends.pop(0)

    def poll(self, run_id: str) -> RunState:
        return self.end if isinstance(self.end, RunState) else DONE

    def outputs(self, run_id: str) -> Path:
        assert isinstance(self.end, bytes)
        (self.folder / "verdict.json").write_bytes(self.end)
        return self.folder

    def remove(self, run_id: str) -> None:
        pass


DONE = RunState(Phase.EXITED, Reason.EXITED, 0)
CRASHED = RunState(Phase.EXITED, Reason.EXITED, 139)
SAYS_EQUAL = b'{"verdict": "equal", "reason": "", "pair": -1}'


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ([CRASHED, SAYS_EQUAL], Verdict.DIFFERENT),
        ([CRASHED, CRASHED], Verdict.CANNOT),
        ([CRASHED, RunState(Phase.EXITED, Reason.TIMEOUT)], Verdict.CANNOT),
        ([RunState(Phase.EXITED, Reason.TIMEOUT)], Verdict.CANNOT),
        ([b"{}", SAYS_EQUAL], Verdict.DIFFERENT),
        ([b"[" * 4000, SAYS_EQUAL], Verdict.DIFFERENT),
        ([b" " * 5000 + SAYS_EQUAL, SAYS_EQUAL], Verdict.DIFFERENT),
        ([b'{"verdict": "different", "reason": "x", "pair": 7}', SAYS_EQUAL], Verdict.DIFFERENT),
        ([b'{"verdict": "sure", "reason": "x", "pair": 0}', b"{}"], Verdict.CANNOT),
        ([b'{"verdict": "different", "reason": "a\\nb\\u202e", "pair": 0}'], Verdict.DIFFERENT),
    ],
)
def test_compare__program_that_did_not_end_well(
    made: Maker, tmp_path: Path, ends: list[Any], wanted: Verdict
) -> None:
    fake: Any = Runs(tmp_path, *ends)
    ours, theirs = made("ours", {"a.json": b"1"}), made("theirs", {"a.json": b"2"})
    said = Comparator(fake, None, tmp_path / "plans").compare("x", NUMERIC, ours, theirs)
    assert said.verdict is wanted and said.reason.isascii() and said.reason.isprintable()
    assert fake.ends == [] and not any((tmp_path / "plans").iterdir())


@pytest.mark.parametrize(
    "end", [RunState(Phase.LOST), RunState(Phase.EXITED, Reason.SANDBOX_FAILED, detail="no walls")]
)
def test_compare__machine_that_fails__is_no_verdict(
    made: Maker, tmp_path: Path, end: RunState
) -> None:
    fake: Any = Runs(tmp_path, end)
    ours, theirs = made("ours", {"a.json": b"1"}), made("theirs", {"a.json": b"2"})
    with pytest.raises(RunnerError, match="cannot be compared here"):
        Comparator(fake, None, tmp_path / "plans").compare("x", NUMERIC, ours, theirs)


def test_request__strangers_bytes_get_no_more_than_a_job(made: Maker, tmp_path: Path) -> None:
    fake: Any = Runs(tmp_path, SAYS_EQUAL)
    ours, theirs = made("ours", {"a.json": b"1"}), made("theirs", {"a.json": b"2"})
    Comparator(fake, None, tmp_path / "plans").compare("x", NUMERIC, ours, theirs)
    (asked,) = fake.asked
    assert not asked.network and asked.devices == () and not asked.env
    assert asked.inputs["program.py"] == module.PROGRAM
    assert json.loads(json.dumps(asked.to_json()))["outputs"] == ["verdict.json"]
    assert os.path.samefile(asked.inputs["ours/0"], ours.directory / "a.json")
    assert os.path.samefile(asked.inputs["theirs/0"], theirs.directory / "a.json")
