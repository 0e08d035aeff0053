# SPDX-License-Identifier: Apache-2.0
"""`make mutate`: do the tests notice small bugs in the lines that move money?

Writes docs/mutation.md. Survivors that behave as the original does are named with the reason in
survivors.toml; an entry that no longer fits is an error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.fuzz import commit
from tests.mutation.mutants import (
    CONTRACTS,
    PARTS,
    ROOT,
    SOURCES,
    Mutant,
    find_mutants,
    part_of,
    sample,
    squeeze,
)
from tests.mutation.reach import Killers, Reach
from tests.mutation.verdicts import RECORDS, Verdicts, of_everything
from tests.mutation.worker import (
    FAILED,
    INVALID,
    KILLED,
    RECORD,
    SURVIVED,
    TIMEOUT,
    Run,
    preload,
    start,
    test_files,
)

REPORT = ROOT / "docs" / "mutation.md"
KNOWN = Path(__file__).parent / "survivors.toml"
TARGET = 95
HEADER = (
    "# Mutation testing\n"
    "\n"
    "Written by `make mutate`; do not edit. The tool plants one small bug at a time in the lines"
    " that move money, or on which money depends. It runs against it the stateful machine with"
    " fixed seeds, then every test that runs the function with the bug, the cheapest file first."
    " What a test runs was recorded on the unchanged sources, where all tests pass. A mutant is"
    " killed when a test fails, and is not tried again while its function stays as it is. Those"
    " that are explained below count as survivors without being tried (`--explained` tries them)."
    " Logs,"
    " constructors and external views are not mutated. Mutants that do not compile do not count. A"
    " mutant that runs out of time counts as a survivor.\n"
)
# (file, function, line, before, after) -> why nobody can tell the mutant from the original
Reasons = dict[tuple[str, str, str, str, str], str]


@dataclass
class Result:
    """All verdicts, and how the run was made."""

    total: int
    chosen: str
    commit: str
    verdicts: list[tuple[Mutant, str]] = field(default_factory=list)
    tried: int = 0
    """In this run; the others were known."""
    seconds: float = 0.0

    def of(self, *kinds: str) -> list[Mutant]:
        return [mutant for mutant, kind in self.verdicts if kind in kinds]


def known_survivors(mutants: Sequence[Mutant]) -> Reasons:
    """Reasons by mutant. Exits with a line when an entry names no mutant of today."""
    reasons = {}
    for entry in tomllib.loads(KNOWN.read_text()).get("survivor", []):
        names = ("file", "function", "line", "before", "after")
        key = tuple(entry[name] for name in names)
        reasons[key] = entry["reason"]
    stale = set(reasons) - {mutant.key for mutant in mutants}
    if stale:
        file, function, _, before, after = sorted(stale)[0]
        sys.exit(
            f"error: {KNOWN.name} names a mutant that is gone: {file} {function}:"
            f" {before} -> {after}; remove or update the entry"
        )
    return reasons


def recorded(compiled: dict[str, object], tests: Sequence[str]) -> Reach:
    """What the tests reach, from the last run if nothing has changed since.

    The tests must pass on the real contracts, or every mutant would look killed.
    """
    kept = RECORDS / f"reach-{of_everything(tests)}.json"
    if kept.is_file():
        return Reach.load(kept)
    console = Console(stderr=True)
    with console.status("the tests on the unchanged contracts (all of them: about 5 minutes)"):
        run = start(None, test_files(tests), compiled)
        try:
            while (verdict := run.poll(float("inf"))) is None:
                time.sleep(0.1)
        except BaseException:
            run.kill()
            raise
    if verdict != SURVIVED:
        sys.stderr.write(run.output()[-3_000:])
        sys.exit("error: the tests fail on the unchanged contracts; make them pass first")
    reach = Reach.load(run.directory / RECORD)
    run.close()
    reach.save(kept)
    return reach


def run_all(
    mutants: Sequence[Mutant],
    reach: Reach | None,
    compiled: dict[str, object],
    options: argparse.Namespace,
    result: Result,
    reasons: Reasons,
) -> None:
    """Work through the mutants, `options.workers` at a time; without a reach try none."""
    until = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    running: list[Run] = []
    known = Verdicts(lasting=(KILLED, INVALID), tests=options.tests)
    if not options.explained:
        # They cost all tests each, and count as survivors.
        explained = [m for m in known.missing(mutants) if m.key in reasons]
        result.verdicts += [(m, SURVIVED) for m in explained]
        mutants = [m for m in mutants if m not in explained]
    result.verdicts += [(m, found) for m in mutants if (found := known.get(m))]
    if reach is None:
        return
    try:
        _work_off(known, known.missing(mutants), running, reach, compiled, options, until, result)
    finally:
        for run in running:
            run.kill()


def _work_off(
    known: Verdicts,
    waiting: list[Mutant],
    running: list[Run],
    reach: Reach,
    compiled: dict[str, object],
    options: argparse.Namespace,
    until: float,
    result: Result,
) -> None:
    killers = Killers()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("mutants", total=len(waiting))
        while running or (waiting and time.monotonic() < until):
            while waiting and len(running) < options.workers and time.monotonic() < until:
                mutant = waiting.pop(0)
                first = killers.of(mutant)
                tests = reach.of(mutant)
                running.append(start(mutant, tests, compiled, first, options.seconds))
            for run in list(running):
                verdict = run.poll(options.timeout)
                if verdict is None:
                    continue
                running.remove(run)
                assert run.mutant is not None
                mutant = run.mutant
                if verdict == FAILED:
                    sys.stderr.write(run.output()[-3_000:])
                    sys.exit(f"error: the worker for {describe(mutant)} broke down, see above")
                if verdict == KILLED:
                    killers.saw(mutant, run.output())
                run.close()
                if verdict != TIMEOUT:  # it may have more time in the next run
                    known.put(mutant, verdict)
                result.verdicts.append((mutant, verdict))
                result.tried += 1
                # A terminal shows the bar; a log gets a line for each.
                if verdict in (SURVIVED, TIMEOUT) or not progress.console.is_terminal:
                    progress.console.print(f"{verdict}: {describe(mutant)}", markup=False)
                progress.update(
                    task, advance=1, description=f"mutants, {rate(result):.0f} % killed"
                )
            time.sleep(0.1)


def describe(mutant: Mutant) -> str:
    return (
        f"{mutant.file}:{mutant.line} {mutant.function}: {mutant.operator}:"
        f" {squeeze(mutant.before)} -> {squeeze(mutant.after)}"
    )


def rate(result: Result) -> float:
    """Killed in percent of all that compile."""
    valid = len(result.of(KILLED, SURVIVED, TIMEOUT))
    return 100 * len(result.of(KILLED)) / valid if valid else 0.0


def code(text: str) -> str:
    """A piece of source in a table cell."""
    return "`` " + squeeze(text).replace("|", "\\|") + " ``"


def table(result: Result, title: str, name: str) -> list[str]:
    counts: dict[str, Counter[str]] = {}
    for mutant, verdict in result.verdicts:
        counts.setdefault(getattr(mutant, name), Counter())[verdict] += 1
    lines = [
        f"| {title} | mutants | killed | survived | timed out | score |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    total: Counter[str] = sum(counts.values(), Counter())
    for label, count in [*sorted(counts.items()), ("**all**", total)]:
        valid = count[KILLED] + count[SURVIVED] + count[TIMEOUT]
        score = f"{100 * count[KILLED] / valid:.1f} %" if valid else "-"
        cells = (label, valid, count[KILLED], count[SURVIVED], count[TIMEOUT], score)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*lines, ""]


def section(part: str, result: Result, reasons: Reasons, workers: int) -> str:
    """Scores of one part, and every survivor with its explanation."""
    survivors = result.of(SURVIVED, TIMEOUT)
    equivalent = [m for m in survivors if m.key in reasons]
    valid = len(result.of(KILLED, SURVIVED, TIMEOUT))
    lines = [
        f"## {part}",
        "",
        f"**{result.chosen}: {len(result.of(KILLED))} of {valid} killed, {rate(result):.1f} %**"
        f" (target {TARGET} %), commit {result.commit}, on {date.today()};"
        f" {result.tried} were tried in this run, in {result.seconds / 60:.0f} minutes with"
        f" {workers} worker{'s'[: workers - 1]}, the verdicts of the others are from before."
        f" {len(result.of(INVALID))} more did not compile. Of the"
        f" {len(survivors)} survivors {len(equivalent)} behave as the original does.",
        "",
        *table(result, "file", "file"),
        *table(result, "operator", "operator"),
        "### Survivors",
        "",
    ]
    if survivors:
        lines += ["| where | operator | original | mutant | why |", "|---|---|---|---|---|"]
        for m in sorted(survivors, key=lambda m: (m.file, m.line)):
            why = reasons.get(m.key, "not explained yet: a test is missing")
            where = f"{m.file}:{m.line} `{m.function}`"
            lines.append(f"| {where} | {m.operator} | {code(m.before)} | {code(m.after)} | {why} |")
    else:
        lines.append("None.")
    return "\n".join(lines) + "\n"


def write_report(part: str, text: str) -> None:
    """Put a part into docs/mutation.md; the other parts stay as they were last run."""
    found = REPORT.read_text().split("\n## ")[1:] if REPORT.is_file() else []
    sections = {old.split("\n", 1)[0]: f"## {old.rstrip()}\n" for old in found} | {part: text}
    REPORT.write_text("\n".join([HEADER, *(sections[p] for p in PARTS if p in sections)]))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--part", choices=sorted(PARTS), help="one part of the report, not all")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants, not all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default 1)")
    parser.add_argument("--minutes", type=float, help="start no more mutants after this time")
    parser.add_argument("--seconds", type=int, default=300, help="CPU seconds a mutant may take")
    parser.add_argument("--timeout", type=float, default=900, help="seconds by the clock")
    parser.add_argument(
        "--explained", action="store_true", help=f"try those that {KNOWN.name} explains, too"
    )
    parser.add_argument(
        "--tests",
        nargs="+",
        default=[],
        metavar="PATH",
        help="only tests whose path below tests/contracts begins so: what they kill is killed",
    )
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--report", action="store_true", help="try none: write down what is known")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--only", metavar="TEXT", help="mutants whose description has TEXT")
    options = parser.parse_args(argv)
    if options.sample is not None and options.sample < 1:
        parser.error("--sample: give a number from 1 up")
    try:
        test_files(options.tests)
    except ValueError as error:
        parser.error(f"--tests: {error}")
    return options


def main(argv: Sequence[str]) -> int:
    """Run; 0 when the target is reached."""
    options = parse(argv)
    # So that `finally` ends the workers when the tool is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: stopped"))
    found = find_mutants(CONTRACTS)
    reasons = known_survivors(found)
    compiled: dict[str, object] = {}
    reach: Reach | None = None
    good = True
    tested = commit()  # before the report itself is a change
    parts = [options.part] if options.part else list(PARTS)
    for part in parts:
        mutants = [m for m in found if part_of(m.file) == part]
        chosen = [m for m in mutants if not options.only or options.only in describe(m)]
        if options.sample:
            chosen = sample(chosen, options.sample, options.seed)
        if options.list:
            for mutant in chosen:
                print(describe(mutant))
        elif chosen:
            if not options.report:
                compiled = compiled or preload(
                    {name for m in found if part_of(m.file) in parts for name in SOURCES[m.file]}
                )
                reach = reach or recorded(compiled, options.tests)
            good &= run_part(part, mutants, chosen, reach, compiled, reasons, options, tested)
    return 0 if good else 1


def run_part(
    part: str,
    mutants: Sequence[Mutant],
    chosen: Sequence[Mutant],
    reach: Reach | None,
    compiled: dict[str, object],
    reasons: Reasons,
    options: argparse.Namespace,
    tested: str,
) -> bool:
    """Run the mutants of one part and report.

    True when the target is reached, or all that is left behaves as the original.
    """
    began = time.monotonic()
    result = Result(len(mutants), "", tested)
    run_all(chosen, reach, compiled, options, result, reasons)
    result.seconds = time.monotonic() - began
    done = len(result.verdicts)
    result.chosen = f"All {done} mutants"
    if done < len(mutants):
        result.chosen = f"{done} of {len(mutants)} mutants so far, file by file"
        if options.sample:
            result.chosen = f"A random sample of {done} of {len(mutants)} (seed {options.seed})"
    if options.only is None:
        write_report(part, section(part, result, reasons, options.workers))
    killed_now = [m for m in result.of(KILLED) if m.key in reasons]
    for mutant in killed_now:
        print(f"error: {KNOWN.name} lists a mutant that is killed: {describe(mutant)}")
    print(f"{part}: {len(result.of(KILLED))} killed, {rate(result):.1f} % of those that compile")
    alike = all(mutant.key in reasons for mutant in result.of(SURVIVED, TIMEOUT))
    return (rate(result) >= TARGET or alike) and not killed_now


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
