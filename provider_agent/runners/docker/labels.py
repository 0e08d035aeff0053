# SPDX-License-Identifier: Apache-2.0
"""How what belongs to an agent is named in the engine.

Names follow from agent, lease, service and number, so that the engine itself refuses to make
anything twice. Labels say the same to people, and find what is left of a lease without files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

AGENT, LEASE = "teraproof.agent", "teraproof.lease"
SERVICE, NUMBER, SPEC = "teraproof.service", "teraproof.number", "teraproof.spec"


@dataclass(frozen=True)
class Names:
    """The names of one agent's things. `agent` is any text that no other agent has."""

    agent: str

    @property
    def tag(self) -> str:
        """Five digits for names that must be short."""
        return _short(5, self.agent)

    @property
    def bridges(self) -> str:
        """What the names of all bridges of this agent begin with; of no other interface."""
        return f"tp{self.tag}"

    @property
    def mine(self) -> tuple[str, ...]:
        """The label of all that is this agent's."""
        return (f"{AGENT}={self.agent}",)

    def of(self, lease_id: str) -> tuple[str, ...]:
        """The labels of all that is one lease's."""
        return (*self.mine, f"{LEASE}={lease_id}")

    def labels(self, lease_id: str, **more: str) -> dict[str, str]:
        """The labels to put on a thing of a lease."""
        return {AGENT: self.agent, LEASE: lease_id, **more}

    def network(self, lease_id: str) -> str:
        """The name of a lease's network."""
        return f"teraproof-{_short(24, self.agent, lease_id)}"

    def bridge(self, lease_id: str) -> str:
        """The name of its bridge: 15 characters, as the kernel allows."""
        return f"{self.bridges}{_short(8, self.agent, lease_id)}"

    def container(self, lease_id: str, service: str, number: int) -> str:
        """The name of a container."""
        return f"teraproof-{_short(24, self.agent, lease_id, service, str(number))}"


def place_of(thing: dict[str, Any]) -> tuple[str, str, int]:
    """Lease, service and number of a container that carries our labels."""
    labels = thing["Labels"]
    return labels[LEASE], labels.get(SERVICE, ""), int(labels.get(NUMBER, "0"))


def _short(digits: int, *parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:digits]
