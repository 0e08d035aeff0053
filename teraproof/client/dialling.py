# SPDX-License-Identifier: Apache-2.0
"""Connections that are not HTTP, to places that strangers name."""

from __future__ import annotations

import asyncio
import ssl

import httpcore

from teraproof.storage.reach import Reach
from teraproof.storage.uris import Uri


async def dialled(
    place: tuple[str, int], reach: Reach, seconds: float, context: ssl.SSLContext, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection over TLS to an address that `reach` admits: a name is looked up once. `limit` is
    what asyncio buffers. OSError where nobody answers, LocalError (URI_REFUSED) where none may be.
    """
    host, port = place
    reach.check(Uri("https", host, port, "/"))
    try:
        found = await asyncio.to_thread(reach.resolve, host, port, seconds)
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        raise OSError(str(error)) from error
    for number, address in enumerate(found, 1):
        try:
            return await asyncio.open_connection(
                address, port, ssl=context, server_hostname="", limit=limit
            )
        except OSError:
            if number == len(found):
                raise
    raise OSError("no address")
