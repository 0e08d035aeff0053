# SPDX-License-Identifier: Apache-2.0
"""The operator's agreement to work for an owner."""

from __future__ import annotations

from typing import Any

from provider_agent.core.pools import make_pool
from provider_agent.core.settings import Settings
from provider_agent.tx.keys import OperatorKey
from teraproof.contracts.staking import StakingContract
from teraproof.protocol import messages


def next_consent(settings: Settings, key: OperatorKey) -> int:
    """The nonce that the operator's next consent must carry. Raises ChainError."""
    pool = make_pool(settings)
    try:
        return StakingContract(pool, settings.chain.staking).consent_nonce(key.address, "latest")
    finally:
        pool.close()


def sign_consent(
    settings: Settings, key: OperatorKey, owner: str, nonce: int, expires: int
) -> dict[str, Any]:
    """The operator's signed agreement to work for `owner`, for the owner to register with."""
    message = messages.OperatorConsent(
        owner=owner, operator=key.address, nonce=nonce, expires=expires
    )
    domain = messages.Domain(settings.chain.chain_id, settings.chain.staking)
    return {
        "owner": message.owner,
        "operator": message.operator,
        "nonce": nonce,
        "expires": expires,
        "signature": "0x" + messages.sign(domain, message, key.account).hex(),
        "chain_id": settings.chain.chain_id,
        "staking": settings.chain.staking,
        "endpoint": settings.api.public_url,
    }
