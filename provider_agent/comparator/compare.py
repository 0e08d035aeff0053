# SPDX-License-Identifier: Apache-2.0
"""The verdict on two results of one job.

Names and digests decide what they can. Files of a known kind whose bytes differ are compared
number by number by `program`, a run like any other: in the same sandbox, under the same limits,
without devices or network. Should that run end by a limit or a crash, ours is compared
with itself in the same way: only if that works are their bytes at fault.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB, Limits, Phase, Reason, Runner, RunRequest, RunState
from teraproof.protocol.comparison import NUMERIC, Comparison
from teraproof.protocol.digests import Entry
from teraproof.protocol.outcome import FAILURE

PROGRAM = Path(__file__).with_name("program.py")
#: Kinds of files that have numbers, by how their names end.
KINDS = {".json": "json", ".npy": "npy", ".npz": "npz", ".safetensors": "safetensors"}

# For a comparison, and a MiB of ours. Measured where every number differs: 0.25 s a MiB of float32,
# 1.2 of int8. What is packed has more numbers in it.
_SECONDS = 60
_SECONDS_A_MIB = {"npz": 32}
_OTHER_SECONDS_A_MIB = 8
# What is equal but for its numbers takes about the same room.
_MOST_TIMES, _MOST_MORE = 4, 64 * MIB
#: Of a comparison under way.
MEMORY_BYTES = 1_024 * MIB
_VERDICT = "verdict.json"
_VERDICT_BYTES = 4_096
_PATIENCE = 0.1  # seconds between two looks


class Verdict(StrEnum):
    """How two results compare."""

    EQUAL = "equal"
    DIFFERENT = "different"
    CANNOT = "cannot"  # our own result is not what the rule can compare


@dataclass(frozen=True)
class Finding:
    """A verdict and its reason: one line for people, in printable ASCII; empty for EQUAL."""

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Files:
    """A result on the disk: the files of its manifest, below a directory."""

    directory: Path
    listed: Sequence[Entry]


@dataclass(frozen=True)
class Pair:
    """Two files of one path, whose bytes differ."""

    path: str
    kind: str
    ours: Path
    theirs: Path
    size: int
    """Bytes of ours."""


def by_names(rule: Comparison, ours: Files, theirs: Files) -> Finding | list[Pair]:
    """The finding, or what must be read to come to one. Opens no file."""
    mine = {entry.path: entry for entry in ours.listed}
    other = {entry.path: entry for entry in theirs.listed}
    for path in sorted(mine.keys() ^ other.keys()):
        whose = "theirs" if path in mine else "ours"
        return Finding(Verdict.DIFFERENT, f"{ascii(path)} is missing in {whose}")
    pairs = []
    for path, entry in mine.items():
        if (entry.sha256, entry.size) == (other[path].sha256, other[path].size):
            continue
        kind = KINDS.get(Path(path).suffix) if rule.rule == NUMERIC and path != FAILURE else None
        if kind is None:
            return Finding(Verdict.DIFFERENT, f"{ascii(path)} has other bytes")
        if other[path].size > _MOST_TIMES * entry.size + _MOST_MORE:
            return Finding(Verdict.DIFFERENT, f"{ascii(path)} is much longer in theirs")
        files = ours.directory / path, theirs.directory / path
        pairs.append(Pair(path, kind, *files, entry.size))
    return pairs or Finding(Verdict.EQUAL)


class Comparator:
    """Compares on this machine. `runtime` is the Python environment that the job ran in; the
    program needs its interpreter alone. `folder` holds the plans of comparisons under way.
    """

    def __init__(
        self,
        runner: Runner,
        runtime: Path | None,
        folder: Path,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._runner, self._runtime, self._folder, self._sleep = runner, runtime, folder, sleep

    def compare(self, name: str, rule: Comparison, ours: Files, theirs: Files) -> Finding:
        """The finding on two results. Waits for it: minutes where there are gigabytes of numbers.

        `name` names the comparison, in up to 80 characters fit for a run id: called again with it,
        after a crash, this goes on. RunnerError where this machine fails.
        """
        found = by_names(rule, ours, theirs)
        if isinstance(found, Finding):
            return found
        said = self._run(f"{name}-both", rule, found)
        if said is not None:
            return said
        same = [Pair(p.path, p.kind, p.ours, p.ours, p.size) for p in found]
        alone = self._run(f"{name}-alone", rule, same)
        if alone is not None and alone.verdict is Verdict.EQUAL:
            return Finding(Verdict.DIFFERENT, "theirs takes more to read than ours does")
        return Finding(Verdict.CANNOT, "ours takes more to read than a comparison may")

    def _run(self, run_id: str, rule: Comparison, pairs: Sequence[Pair]) -> Finding | None:
        """What the program says of these pairs; None where it did not come to an end."""
        runner = self._runner
        if run_id not in runner.list():
            runner.start(self._request(run_id, rule, pairs))
        while (state := runner.poll(run_id)).phase in (Phase.PENDING, Phase.RUNNING):
            if state.phase is Phase.PENDING:
                runner.start(runner.request(run_id))
            self._sleep(_PATIENCE)
        try:
            if state.provider_fault:
                raise RunnerError(f"the results cannot be compared here: {state.detail}")
            return self._said(run_id, state, pairs)
        finally:
            runner.remove(run_id)
            self._plan(run_id).unlink(missing_ok=True)

    def _plan(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"

    def _request(self, run_id: str, rule: Comparison, pairs: Sequence[Pair]) -> RunRequest:
        inputs, rows = {"program.py": PROGRAM, "plan.json": self._plan(run_id)}, []
        for number, pair in enumerate(pairs):
            # Numbered: a path within another directory may be too long for one.
            row = {"kind": pair.kind, "ours": f"ours/{number}", "theirs": f"theirs/{number}"}
            rows.append(row)
            inputs[row["ours"]], inputs[row["theirs"]] = pair.ours, pair.theirs
        plan = {"rtol": rule.rtol, "atol": rule.atol, "pairs": rows}
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._plan(run_id).write_text(json.dumps(plan), "utf-8")
        limits = Limits(
            timeout_seconds=_SECONDS + sum(map(_seconds, pairs)),
            cpus=1,
            memory_bytes=MEMORY_BYTES,
            disk_bytes=MIB,
            output_bytes=MIB,
            pids=8,
            inodes=2 * len(pairs) + 64,
        )
        # Isolated: nothing but Python itself is imported, whatever lies next to it.
        python = "python3" if self._runtime is None else "python"
        return RunRequest(
            run_id=run_id,
            command=(python, "-I", "-S", "program.py", "plan.json"),
            limits=limits,
            runtime=self._runtime,
            inputs=inputs,
            outputs=(_VERDICT,),
        )

    def _said(self, run_id: str, state: RunState, pairs: Sequence[Pair]) -> Finding | None:
        if state.reason is Reason.TIMEOUT:
            # Its bounds are ours: no bytes of theirs make it take so long.
            return Finding(Verdict.CANNOT, "ours takes longer to compare than a comparison may")
        if not state.succeeded:
            return None
        with (self._runner.outputs(run_id) / _VERDICT).open("rb") as file:
            return _parse(file.read(_VERDICT_BYTES + 1), pairs)


def _seconds(pair: Pair) -> int:
    return _SECONDS_A_MIB.get(pair.kind, _OTHER_SECONDS_A_MIB) * pair.size // MIB


def _parse(data: bytes, pairs: Sequence[Pair]) -> Finding | None:
    """The finding in a verdict; None for what the program would never write. It has read hostile
    bytes, so it is not believed to be itself.
    """
    if len(data) > _VERDICT_BYTES:
        return None
    with suppress(ValueError, RecursionError, KeyError, TypeError):
        said: dict[str, Any] = json.loads(data)
        verdict, reason, number = Verdict(said["verdict"]), said["reason"], said["pair"]
        if verdict is Verdict.EQUAL:
            return Finding(verdict)
        if type(number) is int and 0 <= number < len(pairs) and isinstance(reason, str):
            return Finding(verdict, f"{ascii(pairs[number].path)}: {ascii(reason)[1:-1]}")
    return None
