# SPDX-License-Identifier: Apache-2.0
"""What a route is, for the router and for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]
Schema = Mapping[str, Any]
"""A JSON schema."""


class Door(Protocol):
    """Who is asking."""

    async def account(self, request: Request) -> str:
        """The address that signed in. AuthError when there is none."""
        ...


@dataclass(frozen=True)
class Operation:
    """A method of a path and who answers it."""

    method: str
    path: str
    handler: Handler
    answer: str = "application/json"
    """The media type of a success."""
    result: Schema = field(default_factory=lambda: {"type": "object"})
    """Of a success in JSON."""
    statuses: tuple[int, ...] = (200,)
    """Of a success."""
    fields: Mapping[str, Schema] = field(default_factory=dict)
    """Of a JSON body: all of them are needed, and they are text."""
    body: Schema | None = None
    """Of a JSON body that is more than fields of text."""
    query: Mapping[str, Schema] = field(default_factory=dict)
    """What the query may have."""
    headers: Mapping[str, Schema] = field(default_factory=dict)
    """What the request may have, besides what all have."""
    public: bool = False
    """Whether it needs no session."""
