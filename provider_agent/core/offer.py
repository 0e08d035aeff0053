# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/provider`: who this provider is, and what its modules offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provider_agent import devices
from provider_agent.core.fleet import Fleet
from provider_agent.core.module import Module
from provider_agent.core.settings import Settings
from provider_agent.core.standing import Standing


class Offer:
    """See the module. Called from the API's threads."""

    def __init__(
        self,
        settings: Settings,
        operator: str,
        standing: Standing,
        fleet: Fleet,
        modules: Sequence[Module],
    ) -> None:
        self._settings, self._operator = settings, operator
        self._standing, self._fleet, self._modules = standing, fleet, tuple(modules)
        self._cpu = devices.cpu()

    def __call__(self) -> dict[str, Any]:
        """The offer, as JSON values."""
        chain, provider = self._settings.chain, self._standing.provider
        contracts = {
            name: place
            for name in ("jobs", "staking", "benchmark", "emissions")
            if (place := getattr(chain, name)) is not None
        }
        found: dict[str, Any] = {
            "owner": None if provider is None else provider.owner,
            "operator": self._operator,
            "chain_id": chain.chain_id,
            "contracts": contracts,
            "devices": [
                {"kind": d.kind, "name": d.name, "memory_bytes": d.memory_bytes}
                for d in self._fleet.usable or (self._cpu,)
            ],
            "proof": None,
        }
        for module in self._modules:
            found |= module.offer()
        return found
