# SPDX-License-Identifier: Apache-2.0
"""A cluster of Ray for tests of another environment, which has no Ray.

fleet_process.py PLACE: says its address and the file of its token as JSON, and then obeys a line of
JSON each. It ends with its stdin.

    {"do": "kill", "machine": "b"}     Ray's daemon there dies; "start" has it join again
    {"do": "hang"}                     Ray's head answers nothing; "go_on" ends that
    {"do": "restart"}                  all of Ray ends, and begins again from nothing
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from tests.agent_ray.fleet import Fleet


def main(place: str) -> None:
    """Serves one test."""
    fleet = Fleet(Path(place))
    try:
        say({"address": fleet.address, "token": str(fleet.token_file)})
        for line in sys.stdin:
            asked = json.loads(line)
            if asked["do"] == "kill":
                fleet.kill(asked["machine"])
            elif asked["do"] == "start":
                fleet.start(asked["machine"])
            elif asked["do"] == "restart":
                fleet.restart()
            else:
                fleet.signal_head(signal.SIGSTOP if asked["do"] == "hang" else signal.SIGCONT)
            say({})
    finally:
        fleet.end()


def say(value: dict[str, str]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
