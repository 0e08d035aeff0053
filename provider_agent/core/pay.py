# SPDX-License-Identifier: Apache-2.0
"""The token that jobs and bonds are paid in, as people read amounts of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from provider_agent.store import Store
from teraproof.amounts import show_units
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Block

_SYMBOL = 16  # letters that are shown of one
_DECIMALS, _PAID_IN = "pay_decimals", "pay_symbol"  # in the store's meta


class _Token(Protocol):
    def decimals(self, block: Block) -> int: ...

    def symbol(self, block: Block) -> str: ...


@dataclass(frozen=True)
class Pay:
    """A payment token. `symbol` may be empty."""

    decimals: int
    symbol: str

    @classmethod
    def read(cls, token: _Token) -> Self:
        """From the token. Raises ChainError."""
        decimals = token.decimals("latest")
        try:
            symbol = token.symbol("latest")
        except ChainError:
            symbol = ""  # optional in ERC-20
        return cls(decimals, "".join(c for c in symbol if c.isprintable())[:_SYMBOL])

    def keep(self, store: Store, module: str) -> None:
        """Note it for `kept`."""
        store.set_meta(f"{module}.{_DECIMALS}", str(self.decimals))
        store.set_meta(f"{module}.{_PAID_IN}", self.symbol)

    @classmethod
    def kept(cls, store: Store, module: str) -> Self | None:
        """What a module was paid in when its agent ran last; None before. No node is asked."""
        decimals = store.meta(f"{module}.{_DECIMALS}")
        symbol = store.meta(f"{module}.{_PAID_IN}")
        return None if decimals is None else cls(int(decimals), symbol or "")

    @property
    def unit(self) -> int:
        """Units of a whole token."""
        return int(10**self.decimals)

    def show(self, units: int) -> str:
        """An amount of it for people."""
        return show_units(units, self.decimals, self.symbol)
