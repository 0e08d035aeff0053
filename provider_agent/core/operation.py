# SPDX-License-Identifier: Apache-2.0
"""What a route is, for the router and for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]


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
    fields: tuple[str, ...] = ()
    """Of a JSON body, all text."""
    query: tuple[str, ...] = ()
    """Numbers of bytes that the query may have."""
    public: bool = False
    """Whether it needs no session."""
