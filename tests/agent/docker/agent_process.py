# SPDX-License-Identifier: Apache-2.0
"""An agent's half of a lease as a process of its own, to be killed: it makes leases over and over.

agent_process.py SOCKET DATA AGENT IMAGE
"""

from __future__ import annotations

import sys
from pathlib import Path

from provider_agent.runners.base import MIB
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.lease import Lease, Service


def lease(lease_id: str, image: str) -> Lease:
    """Two services, three containers."""
    more = {"cpu": 200, "memory": 16 * MIB, "storage": 2 * MIB, "pids": 8}
    command = ("/bin/sleep", "600")
    return Lease(
        lease_id,
        (
            Service("one", image, command=command, **more),  # type: ignore[arg-type]  # numbers
            Service("two", image, command=command, count=2, **more),  # type: ignore[arg-type]
        ),
    )


def main(socket: str, data: str, agent: str, image: str) -> None:
    """Makes leases, and removes every other one."""
    runner = DockerRunner(Path(data), agent, socket=Path(socket), reserve=MIB)
    print("begins", flush=True)
    for number in range(1000):
        lease_id = f"lease-{number % 3}"
        runner.prepare(lease(lease_id, image))
        runner.start(lease_id)
        if number % 2:
            runner.remove(lease_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
