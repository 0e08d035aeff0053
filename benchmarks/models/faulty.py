# SPDX-License-Identifier: Apache-2.0
"""What a dishonest host does to its answers, for demonstrations. Off unless asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass
class Faulty:
    """How a host cheats, besides by its weights.

    Args:
        cut: the most tokens of an answer; it then says that the model has ended. 0 for none.
        extra: the part by which it counts too many tokens.
        schemas: the part of the answers with a schema that it breaks.
    """

    cut: int = 0
    extra: float = 0.0
    schemas: float = 0.0
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def ends(self, tokens: int) -> bool:
        """Whether it ends an answer that has this many tokens."""
        return 0 < self.cut <= tokens

    def count(self, tokens: int) -> int:
        """What it says that the answer has cost."""
        return round(tokens * (1 + self.extra))

    def breaks(self) -> bool:
        """Whether it breaks the schema of an answer."""
        return self._random.random() < self.schemas
