# SPDX-License-Identifier: Apache-2.0
"""Reading requests. Whatever is wrong with one is Refused with its code."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from provider_agent.http.pace import Pace
from teraproof.errors import Refused
from teraproof.protocol.digests import is_hex_digest
from teraproof.protocol.errors import Code
from teraproof.protocol.siwe import MAX_MESSAGE_BYTES, MAX_SIGNATURE_BYTES

_JSON_BYTES = 2 * (MAX_MESSAGE_BYTES + MAX_SIGNATURE_BYTES) + 1_024
_NUMBER = re.compile(r"[0-9]{1,18}")


def broken_off() -> Refused:
    """Nobody reads this answer; nothing was kept."""
    return Refused(Code.BAD_REQUEST, "the request was broken off")


def too_slow() -> Refused:
    """A body that does not come."""
    return Refused(Code.TOO_SLOW, "the request is too slow; send it again")


def field_invalid(field: str, expected: str) -> Refused:
    """A part of the request has the wrong form."""
    return Refused(Code.FIELD_INVALID, f"{field}: expected {expected}", field=field)


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body, of at most `limit` bytes, within `seconds`."""
    large = Refused(Code.BODY_TOO_LARGE, f"the body is larger than {limit} bytes", limit=limit)
    if int(request.headers.get("content-length", "0")) > limit:
        raise large
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise large
    except TimeoutError:
        raise too_slow() from None
    except ClientDisconnect:
        raise broken_off() from None
    return bytes(data)


async def read_fields(request: Request, seconds: float, *names: str) -> dict[str, str]:
    """The body as a JSON object with exactly these fields, all ASCII text."""
    data = await read_body(request, _JSON_BYTES, seconds)
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(Code.BODY_INVALID, "the body is not JSON") from None
    if not isinstance(body, dict) or set(body) != set(names):
        raise Refused(Code.BODY_INVALID, f"expected an object with {' and '.join(names)}")
    for name in names:
        if not isinstance(body[name], str) or not body[name].isascii():
            raise field_invalid(name, "ASCII text")
    return body


async def pieces(request: Request, patience: float, rate: int) -> AsyncIterator[bytes]:
    """The body piece by piece. TimeoutError when it is `patience` seconds later than at `rate`
    bytes per second, whether in one piece or in all of them together.

    The time that the caller takes for a piece does not count.
    """
    stream, clock = request.stream(), asyncio.get_running_loop().time
    pace, waited, moved = Pace(rate, 0.0), 0.0, 0
    pace.look(waited, moved)
    while True:
        began = clock()
        # Not wait_for: before Python 3.12 it can swallow a time-out.
        async with asyncio.timeout(patience - pace.late):
            piece = await anext(stream, None)
        if piece is None:
            return
        waited += clock() - began
        moved += len(piece)
        pace.look(waited, moved)
        if pace.late >= patience:
            raise TimeoutError
        yield piece


def sha256_of(request: Request) -> str:
    """The digest in the path."""
    value = str(request.path_params["sha256"])
    if not is_hex_digest(value):
        raise field_invalid("sha256", "64 lower-case hex digits")
    return value


def content_length(request: Request) -> int:
    """The length that the request announces."""
    value = request.headers.get("content-length", "")
    if not _NUMBER.fullmatch(value):
        raise Refused(Code.LENGTH_REQUIRED, "send the file with a Content-Length")
    return int(value)


def query_integer(request: Request, name: str) -> int | None:
    """A number of bytes in the query, if it is there."""
    value = request.query_params.get(name)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise field_invalid(name, "a number of bytes")
    return int(value)
