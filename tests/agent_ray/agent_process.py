# SPDX-License-Identifier: Apache-2.0
"""An agent as a process of its own, to be killed: it makes leases over and over.

agent_process.py ADDRESS TOKEN_FILE NAME PLACE
"""

from __future__ import annotations

import sys
from pathlib import Path

from provider_agent.runners.ray.cluster import Terms
from provider_agent.runners.ray.runner import RayRunner
from tests.agent_ray.fleet import joined, lease


def main(address: str, token_file: str, name: str, place: str) -> None:
    """Makes leases, and removes every other one."""
    terms = Terms(
        address,
        Path(token_file),
        f"agent {name}",
        Path(place) / "nodes",
        make="tests.agent_ray.processes:make",
        needs="tests.agent_ray.processes:needs",
        look="tests.agent_ray.processes:gpus",
    )
    runner = RayRunner(Path(place) / name, terms)
    joined(runner)
    print("begins", flush=True)
    for number in range(1000):
        lease_id = f"lease-{number % 3}"
        runner.prepare(lease(lease_id, cpu=1000))
        runner.start(lease_id)
        if number % 2:
            runner.remove(lease_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
