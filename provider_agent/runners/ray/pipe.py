# SPDX-License-Identifier: Apache-2.0
"""A program on another machine of the fleet, as a process of this one: the worker of a challenge.

pipe.py PLACE CONTACT PARENT: what comes in goes to the program, and what it says comes out. PLACE
keeps the agent's key, CONTACT is the machine as JSON. When this process ends, so does the program.
"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import suppress
from pathlib import Path

from provider_agent.errors import RunnerError
from provider_agent.runners.linux import die_with
from provider_agent.runners.ray import keys
from provider_agent.runners.ray.cluster import Contact
from provider_agent.runners.ray.link import Channel, Link

_SECONDS = 20.0


def command(place: Path, contact: Contact) -> tuple[str, ...]:
    """What starts it; the number of the parent comes last."""
    told = {
        "machine": contact.machine,
        "fault": "",
        "host": contact.host,
        "port": contact.port,
        "certificate": contact.certificate,
    }
    return (sys.executable, "-P", "-m", __name__, str(place), json.dumps(told))


def _inward(channel: Channel) -> None:
    with suppress(RunnerError, OSError):
        while piece := sys.stdin.buffer.readline():
            channel.write(piece)
        channel.finish()


def main(place: str, contact: str, parent: str) -> None:
    """Carries, until the program has ended."""
    die_with(int(parent))
    link = Link(Contact(**json.loads(contact)), keys.identity(Path(place), "agent"), _SECONDS)
    try:
        channel = link.channel("challenge", lease="challenge", service="", number=0)
        threading.Thread(target=_inward, args=(channel,), daemon=True).start()
        while True:
            kind, data = channel.read()
            if not data:
                break
            out = sys.stderr if kind == 2 else sys.stdout
            out.buffer.write(data)
            out.buffer.flush()
    except RunnerError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
