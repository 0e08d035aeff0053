# SPDX-License-Identifier: Apache-2.0
"""What a stranger sees when something goes wrong: the one shape of `teraproof.protocol.errors`.

Refused and AuthError are meant for tenants. A ChainError may name an endpoint, so its words stay in
the log. Everything else is a bug or a fault of this machine: the answer tells nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from teraproof.errors import AuthError, Refused
from teraproof.protocol.errors import CODE_HEADER, Code, WireError
from teraproof.rpc.errors import ChainError

log = logging.getLogger(__name__)

# What a client waits when nothing better is known, in seconds.
_RETRY_AFTER = 5
_BY_STATUS = {404: Code.ROUTE_UNKNOWN, 405: Code.METHOD_NOT_ALLOWED}


def told(error: Exception) -> Refused:
    """An error as a tenant may see it."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, AuthError):
        return Refused(error.code, str(error), **error.details)
    if isinstance(error, ChainError):
        return Refused(Code.CHAIN_UNAVAILABLE, "the chain cannot be asked now; try later")
    if isinstance(error, HTTPException):
        # Raised by the router alone.
        code = _BY_STATUS.get(error.status_code, Code.BAD_REQUEST)
        return Refused(code, HTTPStatus(error.status_code).phrase.lower())
    return Refused(Code.INTERNAL, "internal error of the provider")


def answer(
    refused: Refused,
    beside: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer that carries it, with what else stands in the body."""
    code, status = refused.code, refused.code.status or 500
    found = {CODE_HEADER: code.value, **(headers or {})}
    if status == 401:
        found["www-authenticate"] = "Bearer"
    if status == 416:
        found["content-range"] = f"bytes */{refused.details['size']}"
    if status in (429, 503):
        found["retry-after"] = str(refused.details.get("retry_after", _RETRY_AFTER))
    error = WireError(code, str(refused), refused.retryable, refused.details)
    return JSONResponse({**error.to_json(), **(beside or {})}, status, found)


async def _handled(request: Request, error: Exception) -> Response:
    if isinstance(error, ChainError):
        log.warning("%s: %s", request.url.path, error)
    headers = error.headers if isinstance(error, HTTPException) else None
    return answer(told(error), headers=headers)


#: For Starlette. The server logs the traceback of what no other line names.
HANDLERS: dict[Any, Callable[[Request, Exception], Any]] = dict.fromkeys(
    (HTTPException, Refused, AuthError, ChainError, Exception), _handled
)
