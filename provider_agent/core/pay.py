# SPDX-License-Identifier: Apache-2.0
"""The token that jobs and bonds are paid in, as people read amounts of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from teraproof.amounts import show_units
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Block

_SYMBOL = 16  # letters that are shown of one


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

    @property
    def unit(self) -> int:
        """Units of a whole token."""
        return int(10**self.decimals)

    def show(self, units: int) -> str:
        """An amount of it for people."""
        return show_units(units, self.decimals, self.symbol)
