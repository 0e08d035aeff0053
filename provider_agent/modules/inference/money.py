# SPDX-License-Identifier: Apache-2.0
"""The token that channels hold, and what is signed about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from provider_agent.core.pay import Pay
from provider_agent.core.settings import Settings
from provider_agent.errors import SettingsError
from provider_agent.modules.inference.settings import InferenceSettings
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.leases import LeasesContract
from teraproof.contracts.payment_token import PaymentTokenContract
from teraproof.protocol.messages import Domain
from teraproof.rpc.client import RpcPool


@dataclass(frozen=True)
class Money:
    """See the module. `domain` is that of the token, under which payers sign deposits."""

    token: str
    pay: Pay
    domain: Domain

    @classmethod
    def read(cls, settings: Settings, pool: RpcPool) -> Self:
        """From the token. Raises ChainError, SettingsError."""
        contract = PaymentTokenContract(pool, token_of(settings, pool))
        found = contract.eip712_domain("latest")
        domain = Domain(settings.chain.chain_id, contract.address, found.name, found.version)
        return cls(contract.address, Pay.read(contract), domain)


def token_of(settings: Settings, pool: RpcPool) -> str:
    """The address of the token: as it is set, or that of the market. Raises ChainError,
    SettingsError.
    """
    set_to = settings.section(InferenceSettings).token
    if set_to is not None:
        return set_to
    chain = settings.chain
    if chain.jobs is not None:
        return JobsContract(pool, chain.jobs).payment_token("latest")
    if chain.leases is not None:
        return LeasesContract(pool, chain.leases).payment_token("latest")
    raise SettingsError("inference.token: name the token that is paid in; no market is set")
