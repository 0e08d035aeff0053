# SPDX-License-Identifier: Apache-2.0
"""What every agent keeps, whatever its modules are."""

from __future__ import annotations

from provider_agent.store.ending import Ending
from provider_agent.store.feeds import Feeds
from provider_agent.store.intents import Intents
from provider_agent.store.logins import Logins


class Store(Feeds, Intents, Logins, Ending):
    """The database. Safe to use from several threads; made for one process."""
