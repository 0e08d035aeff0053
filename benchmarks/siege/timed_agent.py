# SPDX-License-Identifier: Apache-2.0
"""The installed agent, which also writes down how long each of its cycles took.

A line a cycle: when it ended (monotonic seconds), and how many seconds it took.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from provider_agent.cli.main import main
from provider_agent.core.loop import Loop


def time_cycles(path: str) -> None:
    """Have every cycle write its line."""
    cycle, lines = Loop.cycle, Path(path)

    def timed(self: Loop) -> bool:
        begin = time.monotonic()
        went_well = cycle(self)
        end = time.monotonic()
        with lines.open("a") as file:
            file.write(f"{end:.3f} {end - begin:.4f}\n")
        return went_well

    Loop.cycle = timed  # type: ignore[method-assign]


if __name__ == "__main__":
    time_cycles(os.environ.pop("SIEGE_CYCLES"))
    sys.argv[0] = "provider-agent"
    main()
