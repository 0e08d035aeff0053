# SPDX-License-Identifier: Apache-2.0
"""A request of an application, and what of it is sent to a host."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from teraproof.errors import Refused
from teraproof.gateway.preferences import Preferences
from teraproof.gateway.ranking import Wish, completion_limit
from teraproof.protocol.errors import Code
from teraproof.protocol.inference import Model

_MOST_CHOICES = 128
# Of a request that only the gateway obeys.
_GATEWAYS = ("provider", "models")


@dataclass(frozen=True)
class Sent:
    """The body for one model, and how many tokens its answers may have together."""

    body: bytes
    request: bytes
    """Its sha256."""
    tokens: int
    choices: int


@dataclass(frozen=True)
class Ask:
    """A request. `kind` is a key of `protocol.inference.PATHS`."""

    kind: str
    body: Mapping[str, Any]
    size: int
    preferences: Preferences

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream."""
        return self.kind != "embeddings" and self.body.get("stream") is True

    @property
    def wish(self) -> Wish:
        """What the ranking looks at."""
        return Wish.of(self.kind, self.body, self.size)

    def sent(self, model: Model) -> Sent:
        """What a host gets that serves it with this model."""
        kept = {name: value for name, value in self.body.items() if name not in _GATEWAYS}
        kept["model"] = model.name
        body = json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()
        choices = self._choices()
        limit = completion_limit(self.body)
        each = model.max_completion if limit is None else min(limit, model.max_completion)
        tokens = 0 if self.kind == "embeddings" else each * choices
        return Sent(body, hashlib.sha256(body).digest(), tokens, choices)

    def _choices(self) -> int:
        """Answers that are asked for at once: each costs its tokens."""
        found = 1
        for name in ("n", "best_of"):
            value = self.body.get(name)
            if value is None:
                continue
            if not isinstance(value, int) or not 1 <= value <= _MOST_CHOICES:
                raise Refused(Code.FIELD_INVALID, f"{name}: give 1 to {_MOST_CHOICES}", field=name)
            found = max(found, value)
        return found
