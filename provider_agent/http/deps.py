# SPDX-License-Identifier: Apache-2.0
"""What the API is wired to. Everything here is called from worker threads, several at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from provider_agent.core.health import Health
from provider_agent.core.metrics import Metrics
from provider_agent.http.auth import Authenticator
from provider_agent.http.limits import ApiLimits


@dataclass(frozen=True)
class ApiDeps:
    """What every agent's API needs, whatever its modules are."""

    auth: Authenticator
    provider: Callable[[], dict[str, Any]]
    """The JSON of `GET /v1/provider`."""
    health: Health
    metrics: Metrics
    origins: tuple[str, ...] = ()
    """Of web pages that may call the API."""
    limits: ApiLimits = field(default_factory=ApiLimits)
