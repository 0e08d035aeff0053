# SPDX-License-Identifier: Apache-2.0
"""What start-up checks share: the endpoints that have answered, the operator, the provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from provider_agent.core.settings import Settings
from provider_agent.core.standing import Provider, Standing
from provider_agent.errors import SettingsError
from teraproof.contracts.staking import StakingContract
from teraproof.errors import LocalError, TeraproofError
from teraproof.protocol.errors import Code
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import BlockRef

StartCheck = tuple[str, Callable[[], str]]
"""A name, and what says in one line what is there; it raises what is wrong."""


class _Contract(Protocol):
    def __init__(self, pool: RpcPool, address: str) -> None: ...


_AnyContract = TypeVar("_AnyContract", bound=_Contract)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. A `warning` does not keep the agent from starting."""

    name: str
    ok: bool
    line: str
    warning: bool = False


class Caution(LocalError):
    """Worth a line, and no reason not to start."""

    default: ClassVar[Code] = Code.CHECK_WARNING


def finding(name: str, check: Callable[[], str]) -> Finding:
    """What a check has found."""
    try:
        return Finding(name, True, check())
    except Caution as caution:
        return Finding(name, True, str(caution), warning=True)
    except TeraproofError as error:
        return Finding(name, False, str(error))


class Trial:
    """See the module. Each check leaves here what later ones need."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.address: str | None = None  # the operator's
        self.pool: RpcPool | None = None  # once it has answered
        self.has_contracts = False  # whether they are there, and belong together

    def operator(self) -> str:
        """The operator's address."""
        if self.address is None:
            raise SettingsError("needs the operator key")
        return self.address

    def reachable(self) -> RpcPool:
        """The endpoints that have answered."""
        if self.pool is None:
            raise ChainError("needs an RPC endpoint")
        return self.pool

    def provider(self, block: BlockRef) -> Provider:
        """The provider's entry."""
        staking = StakingContract(self.reachable(), self.settings.chain.staking)
        found = Standing(staking, self.operator()).look(block)
        if found is None:
            raise Caution("needs a provider with stake")
        return found

    def contract(self, setting: str, address: str, kind: type[_AnyContract]) -> _AnyContract:
        """The contract at the address of a setting."""
        pool = self.reachable()
        if not pool.code(address):
            raise SettingsError(f"there is no contract at {setting} {address}")
        return kind(pool, address)
