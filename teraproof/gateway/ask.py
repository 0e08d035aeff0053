# SPDX-License-Identifier: Apache-2.0
"""A request of an application, and what of it is sent to a host."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from teraproof.gateway import bodies
from teraproof.gateway.preferences import Preferences
from teraproof.gateway.ranking import Wish
from teraproof.protocol.inference import Model
from teraproof.protocol.inference_request import ModelRequest

# Of a request that only the gateway obeys.
_GATEWAYS = ("provider", "models", "usage")


@dataclass(frozen=True)
class Sent:
    """The body for one model, and what bounds its cost, as the host reckons it, too."""

    body: bytes
    request: bytes
    """Its sha256."""
    read: ModelRequest


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
        """What a host gets that serves it with this model. Refused names a field that is unfit."""
        kept = {name: value for name, value in self.body.items() if name not in _GATEWAYS}
        kept["model"] = model.name
        body = bodies.dump(kept)
        read = ModelRequest.of(self.kind, kept, len(body), model)
        return Sent(body, hashlib.sha256(body).digest(), read)
