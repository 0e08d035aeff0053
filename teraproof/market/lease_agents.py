# SPDX-License-Identifier: Apache-2.0
"""The account's connections to agents that rent out."""

from __future__ import annotations

from teraproof.client.leases import LeaseClient
from teraproof.market.market import Market
from teraproof.market.signers import Signer


def connect(market: Market, signer: Signer, url: str) -> LeaseClient:
    """A connection to the agent at `url`, where the market's `reach` admits it."""
    return LeaseClient(
        url, signer, market.chain.chain_id, sessions=market.sessions, reach=market.reach
    )
