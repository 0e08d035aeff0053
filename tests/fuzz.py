# SPDX-License-Identifier: Apache-2.0
"""`make fuzz`: the stateful machine, a million transactions over all contracts, on every core.

Prints the rate, what became of every kind of call, the seed and the commit. Fails when an example
fails, when too few transactions ran, or when a call went through in too few of its tries.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parent.parent
TRANSACTIONS = 1_000_000
STEPS = 400


def commit() -> str:
    """What was tested, and whether it is what git has."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or "unknown"


def work(first: int, step: int, wanted: int, box: Any, sent: Any) -> None:
    """Examples with the seeds first, first + step, ... until enough transactions ran; `sent` counts
    those of all workers.
    """
    # The suite was deployed before the fork.
    from tests.contracts.stateful.driver import Tally, run
    from tests.contracts.stateful.machines import maker_of

    tally, seed = Tally(), first
    failures: list[str] = []
    while tally.sent < wanted and len(failures) < 3:
        before = tally.sent
        try:
            run(maker_of(seed), seed, STEPS, tally)
        except AssertionError as error:
            failures.append(str(error))
        with sent.get_lock():
            sent.value += tally.sent - before
        seed += step
    box.put((tally.data(), failures))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--transactions", type=int, default=TRANSACTIONS)
    parser.add_argument("--seed", type=int, help="first seed (default: by the clock)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    if min(options.transactions, options.workers) < 1:
        parser.error("numbers start at 1")
    return options


def main(argv: Sequence[str]) -> int:
    """Run on every core and add up; 0 when nothing failed and enough was done."""
    from tests.contracts.stateful.driver import LEAST_RATE, Tally
    from tests.contracts.stateful.machines import deploy_all

    options = parse(argv)
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}, commit {commit()}", flush=True)
    deploy_all()
    began = time.monotonic()
    # Forked: contracts are compiled and deployed once.
    context = multiprocessing.get_context("fork")
    box, sent = context.Queue(), context.Value("q", 0)
    share = -(-options.transactions // options.workers)
    workers = [
        context.Process(target=work, args=(seed + n, options.workers, share, box, sent))
        for n in range(options.workers)
    ]
    for worker in workers:
        worker.start()
    total, failures, waiting = Tally(), [], len(workers)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("transactions", total=options.transactions)
        while waiting:
            progress.update(task, completed=min(sent.value, options.transactions))
            try:
                data, failed = box.get(timeout=1)
            except queue.Empty:
                continue
            total.add(Tally.of(data))
            failures += failed
            waiting -= 1
    for worker in workers:
        worker.join()
    total.seconds = time.monotonic() - began
    print("\n".join(total.lines()))
    for name, count in total.notes.items():
        print(f"{name}: {count:,}")
    print(f"{total.summary()} on {options.workers} cores; seed {seed}, commit {commit()}")
    return verdict(total, failures, options.transactions, LEAST_RATE)


def verdict(total: Any, failures: list[str], wanted: int, least: float) -> int:
    for failure in failures:
        print(f"error: {failure}")
    if total.sent < wanted:
        print(f"error: {wanted:,} transactions were asked for")
        return 1
    if rare := total.rare():
        print(f"error: less than {least:.0%} of their tries went through: {', '.join(rare)}")
        return 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
