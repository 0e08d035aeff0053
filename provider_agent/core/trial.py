# SPDX-License-Identifier: Apache-2.0
"""What start-up checks share: the endpoints that have answered, the operator, the provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol, TypeVar

from provider_agent.core.settings import Settings
from provider_agent.core.standing import Provider, Standing
from provider_agent.errors import SettingsError
from teraproof.contracts.staking import StakingContract
from teraproof.errors import LocalError, TeraproofError
from teraproof.protocol.errors import Code
from teraproof.rpc.client import RpcPool
from teraproof.rpc.types import BlockRef

StartCheck = tuple[str, Callable[[], str]]
"""A name, and what says in one line what is there; it raises what is wrong."""


class _Contract(Protocol):
    def __init__(self, pool: RpcPool, address: str) -> None: ...


_AnyContract = TypeVar("_AnyContract", bound=_Contract)


class Mark(StrEnum):
    """How a check ended, as people see it."""

    OK = "ok"
    WARN = "warn"  # no reason not to start
    SKIP = "SKIP"  # it could not be run, so it says nothing
    FAIL = "FAIL"  # the agent does not start


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: what is there, what is wrong with it, or why it was not run."""

    name: str
    mark: Mark
    line: str

    @property
    def ok(self) -> bool:
        """Whether what was looked for is there, if with a warning."""
        return self.mark in (Mark.OK, Mark.WARN)

    @property
    def warning(self) -> bool:
        """Whether it is worth a line, and no reason not to start."""
        return self.mark is Mark.WARN

    @property
    def skipped(self) -> bool:
        """Whether the check was not run."""
        return self.mark is Mark.SKIP


class Caution(LocalError):
    """Worth a line, and no reason not to start."""

    default: ClassVar[Code] = Code.CHECK_WARNING


class Skipped(LocalError):
    """The check cannot be run. The line says why; what failed stops the agent, not this."""

    default: ClassVar[Code] = Code.CHECK_SKIPPED

    @classmethod
    def without(cls, name: str) -> Skipped:
        """Because an earlier check failed, or was not run itself."""
        return cls(f"the check {name} did not pass")


def finding(name: str, check: Callable[[], str]) -> Finding:
    """What a check has found."""
    try:
        return Finding(name, Mark.OK, check())
    except Caution as caution:
        return Finding(name, Mark.WARN, str(caution))
    except Skipped as skipped:
        return Finding(name, Mark.SKIP, str(skipped))
    except TeraproofError as error:
        return Finding(name, Mark.FAIL, str(error))


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
            raise Skipped.without("key")
        return self.address

    def reachable(self) -> RpcPool:
        """The endpoints that have answered."""
        if self.pool is None:
            raise Skipped.without("rpc")
        return self.pool

    def provider(self, block: BlockRef) -> Provider:
        """The provider's entry."""
        staking = StakingContract(self.reachable(), self.settings.chain.staking)
        found = Standing(staking, self.operator()).look(block)
        if found is None:
            raise Skipped("the operator works for no provider with stake yet")
        return found

    def contract(self, setting: str, address: str, kind: type[_AnyContract]) -> _AnyContract:
        """The contract at the address of a setting."""
        pool = self.reachable()
        if not pool.code(address):
            raise SettingsError(f"there is no contract at {setting} {address}")
        return kind(pool, address)
