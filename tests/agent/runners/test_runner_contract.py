# SPDX-License-Identifier: Apache-2.0
"""What one part accepts, the next one must be able to handle: there is collateral at stake.

Every specification that `jobspec.parse` accepts can become a `RunRequest`, and every run that has
ended in the runner by the job's own doing can be kept as a result whose manifest anybody can read.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from provider_agent.modules.jobs.results import Results
from provider_agent.runners import outputs
from provider_agent.runners import receipt as receipts
from provider_agent.runners.base import MIB, Limits, Phase, Reason, RunRequest, RunState
from teraproof.errors import LocalError, SpecError
from teraproof.protocol import jobspec
from teraproof.protocol.digests import Origin, check_path, parse_manifest
from teraproof.protocol.outcome import FAILURE
from teraproof.protocol.receipt import Receipt
from tests.support import runs

JOB = b"\x05" * 32
LIMITS = Limits(10, 1, 256 * MIB, 16 * MIB, MIB, 32)
RUN = RunRequest("run", ("true",), LIMITS)

# Letters that one rule or another may trip over: spaces, marks, private and unassigned characters.
odd = st.sampled_from("a.-_ \\/\u00a0\u0301\u200b\u2028\u202e\u3000\ue000\ufdd0\U0001f600\x7f\n")
text = st.text(odd | st.characters(codec="utf-8"), max_size=12)
part = text | st.sampled_from(["", ".", "..", "a", "b", "x" * 255, "x" * 256, "\u00e9" * 127])


def accepted(rule: Callable[[str], object], value: str) -> bool:
    """Whether a rule lets a value pass."""
    try:
        rule(value)
    except LocalError:
        return False
    return True


# Mostly what the path rule accepts: the question is whether anybody later refuses it.
clean = part.filter(lambda value: accepted(check_path, value))
paths = st.lists(clean, min_size=1, max_size=33).map("/".join) | part
lines = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
fields = st.fixed_dictionaries(
    {},
    optional={
        "command": st.lists(lines | text, min_size=1, max_size=3),
        "env": st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}\n?", fullmatch=True), lines),
        "inputs": st.lists(
            st.fixed_dictionaries(
                {"path": paths, "sha256": st.just("0" * 64), "size": st.integers(0, 2**40)}
            ),
            max_size=3,
        ),
        "outputs": st.lists(paths, min_size=1, max_size=3),
        "resources": st.fixed_dictionaries(
            {
                "cpus": st.integers(1, 1024),
                "memory_mb": st.integers(16, 16777216),
                "disk_mb": st.integers(1, 16777216),
                "gpus": st.integers(0, 64),
            }
        ),
        "timeout_seconds": st.integers(1, 31536000),
    },
)


def document(**fields: Any) -> dict[str, Any]:
    """A plain specification with some of its fields replaced."""
    return {
        "version": 1,
        "kind": "batch",
        "name": "x",
        "runtime": "py",
        "command": ["true"],
        "env": {},
        "inputs": [],
        "outputs": ["out"],
        "resources": {"cpus": 1, "memory_mb": 16, "disk_mb": 1, "gpus": 0},
        "timeout_seconds": 1,
        "deterministic": False,
        "network": False,
        **fields,
    }


@given(fields)
@example({"command": [""]})
@example({"command": ["", "a"]})
@example({"command": ["a", ""]})
@example({"outputs": ["/".join("a" * 17)]})
@example({"outputs": ["/".join("a" * 32)]})
@example({"outputs": ["/".join(["a" * 200] * 3)]})
@example({"outputs": ["a\u00a0b"]})
@example({"inputs": [{"path": "a\ue000", "sha256": "0" * 64, "size": 0}]})
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_spec__accepted__can_become_a_run(value: dict[str, Any]) -> None:
    try:
        spec = jobspec.parse(json.dumps(document(**value)).encode())
    except SpecError:
        assume(False)
    run = RunRequest(
        run_id="run",
        command=spec.command,
        limits=Limits(
            timeout_seconds=spec.timeout_seconds,
            cpus=spec.resources.cpus,
            memory_bytes=spec.resources.memory_mb * MIB,
            disk_bytes=spec.resources.disk_mb * MIB,
            output_bytes=MIB,
            pids=32,
        ),
        env=dict(spec.env),
        inputs={entry.path: Path("stored") for entry in spec.inputs},
        outputs=spec.outputs,
    )
    assert RunRequest.from_json(json.loads(json.dumps(run.to_json()))) == run


@contextmanager
def directory() -> Iterator[Path]:
    """A fresh directory for each example."""
    place = Path(tempfile.mkdtemp())
    try:
        yield place
    finally:
        outputs.remove_tree(place)


def make_tree(work: Path, names: list[bytes]) -> None:
    """Files below `work/out` by these names, as far as the file system takes them."""
    (work / "out").mkdir(parents=True)
    for name in names:
        at = os.open(work / "out", os.O_RDONLY)
        try:
            *above, last = [p for p in name.split(b"/") if p not in (b"", b".", b"..")] or [b"f"]
            for step in above:
                # By descriptor: a job can nest deeper than a path is long.
                with suppress(FileExistsError):
                    os.mkdir(step, dir_fd=at)
                deeper = os.open(step, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
                os.close(at)
                at = deeper
            os.close(os.open(last, os.O_CREAT | os.O_WRONLY, dir_fd=at))
        except OSError:
            continue
        finally:
            os.close(at)


def check_kept(results: Results, state: RunState, collected: Path | None, log: Path) -> None:
    """The run can be kept, and the tenant can read what it is."""
    receipt = receipts.of_run(Origin(JOB, "0x" + "0e" * 20), RUN, state).canonical()
    kept = results.keep(JOB, state, collected, log, receipt)
    listed = parse_manifest(kept.manifest)
    assert all(check_path(entry.path) for entry in listed)
    said = Receipt.parse(kept.receipt)
    if not state.succeeded:
        failure = json.loads((kept.files / FAILURE).read_text())
        assert failure["reason"] == said.reason and FAILURE in [entry.path for entry in listed]
        assert [(one["path"], one["reason"]) for one in failure.get("unfit", ())] == [*state.unfit]
    if collected is None:
        assert [entry.path for entry in listed] == [FAILURE]
    assert state.reason is not None and said.reason == state.reason.value


names = st.lists(part, min_size=1, max_size=36).map(lambda parts: "/".join(parts).encode())


@given(st.lists(names | st.binary(min_size=1, max_size=20), min_size=1, max_size=4))
@example(["e\u0301".encode()])
@example([b"/".join([b"a" * 250] * 5)])
@example([b"/".join([b"a"] * 31)])
@example([b"/".join([b"a"] * 32)])
@example([b"\xff\xfe"])
@example(["a\u00a0b".encode()])
@example([b"a\\b"])
@settings(max_examples=60)
def test_outputs__whatever_their_names__kept_or_refused_by_the_collector(made: list[bytes]) -> None:
    assume(all(b"\0" not in name for name in made))
    with directory() as place:
        make_tree(place / "work", made)
        state = RunState(Phase.EXITED, Reason.EXITED, 0, 1, 2)
        found = outputs.collect(place / "work", ["out"], place / "outputs", MIB)
        if found.unfit:
            unfit = tuple((one.path, one.reason) for one in found.unfit)
            assert all(text.isascii() and text.isprintable() for pair in unfit for text in pair)
            state = RunState(Phase.EXITED, Reason.OUTPUTS, 0, 1, 2, unfit=unfit)
        check_kept(Results(place / "results"), state, place / "outputs", place / "no log")


PROGRAMS = {
    "good": 'open("out/f", "w").write("x")',
    "empty": "",
    "not NFC": 'open("out/e\\u0301", "w")',
    "not text": 'open(b"out/\\xff", "w")',
    "nested": 'os.chdir("out")\nfor _ in range(5): os.mkdir("d" * 250); os.chdir("d" * 250)\n'
    'open("f", "w")',
    "deep": 'os.makedirs("out/" + "d/" * 40)',
    "too many": 'for n in range(10_050): os.close(os.open(f"out/{n}", os.O_CREAT))',
    "closed": 'os.chmod("out", 0); os.chmod(".", 0)',
    "missing": 'os.rmdir("out")',
    "exit code": "raise SystemExit(200)",
    "signal": "os.kill(os.getpid(), 9)",
    "endless": "import time; time.sleep(60)",
    "memory": 'kept = [b"x" * (4 << 20) for _ in range(1000)]',
    "disk": 'for n in range(64): open(f"f{n}", "wb").write(bytes(1 << 20))\n'
    "import time; time.sleep(60)",
    "output": 'while True: print("x" * 1000)',
}


@pytest.mark.parametrize("kind", ["bubblewrap", "none"])
def test_run__however_it_ends__can_be_kept(tmp_path: Path, kind: str) -> None:
    if kind == "bubblewrap":
        runs.need_bubblewrap()
    runner = runs.make_runner(tmp_path / "data", kind)
    commands: dict[str, tuple[str, ...]] = dict.fromkeys(PROGRAMS, ("python", "job.py"))
    commands |= {"no program": ("no-such-program",), "a directory": ("/usr",), "dash": ("--help",)}
    for number, (name, command) in enumerate(commands.items()):
        run_id = f"run-{number}"
        seconds = 3 if name == "endless" else 20
        limits = Limits(seconds, 1, 256 * MIB, 48 * MIB, 64 * 1024, 32)
        source = "import os\nos.mkdir('out')\n" + PROGRAMS.get(name, "")
        run = runs.python_run(tmp_path, run_id, source, limits=limits, outputs=("out",))
        run = RunRequest(**{**vars(run), "command": command})
        runner.start(run)
        state = runs.wait(runner, run_id)
        assert not state.provider_fault, (name, state)
        collected = runner.outputs(run_id) if state.collected else None
        results = Results(tmp_path / "results" / name)
        check_kept(results, state, collected, runner.log(run_id))
        runner.remove(run_id)
        if name != "closed":  # which root can read and others cannot
            assert state.succeeded == (name in ("good", "empty")), (name, state)


def test_keep__outputs_that_no_manifest_can_describe__a_failure_of_the_job(tmp_path: Path) -> None:
    make_tree(tmp_path, ["e\u0301".encode()])
    state = RunState(Phase.EXITED, Reason.EXITED, 0, 1, 2)
    receipt = receipts.of_run(Origin(JOB, "0x" + "0e" * 20), RUN, state).canonical()
    kept = Results(tmp_path / "results").keep(
        JOB, state, tmp_path / "out", tmp_path / "no log", receipt
    )
    assert [entry.path for entry in parse_manifest(kept.manifest)] == [FAILURE]
    assert json.loads((kept.files / FAILURE).read_text()) == {"exit_code": 0, "reason": "outputs"}
    assert Receipt.parse(kept.receipt).reason == "outputs"


@pytest.mark.parametrize("call", ["copytree", "copyfile"])
def test_keep__disk_is_full__raises_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    make_tree(tmp_path, [b"f"])
    (tmp_path / "log").touch()
    state = RunState(Phase.EXITED, Reason.EXITED, 0, 1, 2)
    monkeypatch.setattr(shutil, call, full)
    with pytest.raises(LocalError, match="cannot be kept: No space left"):
        Results(tmp_path / "results").keep(JOB, state, tmp_path / "out", tmp_path / "log", b"{}")
    assert os.listdir(tmp_path / "results") == []


@pytest.mark.parametrize("reason", [Reason.MACHINE, Reason.SANDBOX_FAILED, Reason.KILLED])
def test_keep__provider_fault__never_a_result(tmp_path: Path, reason: Reason) -> None:
    state = RunState(Phase.EXITED, reason, None, 1, 2)
    with pytest.raises(ValueError, match="no result to attest"):
        Results(tmp_path / "results").keep(JOB, state, None, tmp_path / "log", b"{}")
    assert os.listdir(tmp_path / "results") == []
