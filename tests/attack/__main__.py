# SPDX-License-Identifier: Apache-2.0
"""`make attack`: the known faults told again and measured, and a search for new ones.

Prints its seed, what each known fault moved on the first edition and moves now, and the best gain
found at each moment. Fails when a known fault is back or a gain is above rounding.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Sequence

from tests.attack import known, page
from tests.attack.search import NAMES, search
from tests.fuzz import commit

TRIES = 200_000


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--tries", type=int, default=TRIES, help="over all moments")
    parser.add_argument("--seed", type=int, help="(default: by the clock)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--moment", choices=NAMES, action="append", help="(default: all)")
    parser.add_argument("--search-only", action="store_true", help="leave the known ones out")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/attacks.md")
    options = parser.parse_args(argv)
    if min(options.tries, options.workers) < 1:
        parser.error("numbers start at 1")
    if options.write and (options.search_only or options.moment):
        parser.error("the page has everything")
    return options


def main(argv: Sequence[str]) -> int:
    """0 when nothing was gained."""
    options = parse(argv)
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}, commit {commit()}", flush=True)
    told, bad = [], 0
    if not options.search_only:
        told = known.tell_all()
        known.show(told)
        bad += sum(1 for one in told if one.error)
    names, results, began = options.moment or NAMES, [], time.monotonic()
    for result in search(names, options.tries, seed, options.workers):
        results.append(result)
        print(result, flush=True)
        for fault in result.faults:
            print(f"error: {fault}")
        bad += len(result.faults)
    tries, seconds = sum(result.tries for result in results), time.monotonic() - began
    closing = (
        f"{tries:,} strategies on {options.workers} cores in {seconds:.0f} s"
        f" ({tries / seconds:,.0f} a second); seed {seed}, commit {commit()}"
    )
    print(f"{bad} faults; {closing}")
    if options.write and not bad:
        today = datetime.datetime.now(tz=datetime.UTC).date()
        lines = [f"{today}: {closing}.", "", *(f"- {result}" for result in results)]
        page.write({"known": known.lines(told), "search": lines})
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
