# SPDX-License-Identifier: Apache-2.0
"""Requests as raw HTTP, so that the client costs little and the same on every way.

Vouchers of payers who ask the provider themselves are signed before the clock starts: that is
their own cost. The gateway signs while the clock runs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from rich.progress import track

from benchmarks.inference.places import COMPLETION, MODEL, PROMPT, Channel, Market
from teraproof.protocol import x402
from teraproof.protocol.payments import Payment

WARM = 20  # requests that are not counted
#: The ways of a request, each with the one before in it.
WAYS = ("bare", "provider", "gateway")
_WHOLE = b"0\r\n\r\n"


def body(**more: Any) -> bytes:
    """Of a request."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **more}
    return json.dumps(asked).encode()


def request(url: str, data: bytes, payment: Payment | None = None, key: str | None = None) -> bytes:
    """A request with the head that its way needs."""
    place = urlsplit(url)
    lines = [
        f"POST {place.path}/chat/completions HTTP/1.1",
        f"host: {place.netloc}",
        "content-type: application/json",
        f"content-length: {len(data)}",
    ]
    if payment is not None:
        lines.append(f"{x402.SIGNATURE_HEADER}: {payment.encode()}")
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def ways(place: Market, data: bytes, payments: Sequence[Payment]) -> dict[str, list[bytes]]:
    """The same requests on each way."""
    number = len(payments)
    return {
        "bare": [request(place.upstream, data)] * number,
        "provider": [request(place.front, data, one) for one in payments],
        "gateway": [request(place.gateway, data, key=place.key)] * number,
    }


def url_of(place: Market, way: str) -> str:
    """Where a way begins."""
    return {"bare": place.upstream, "provider": place.front, "gateway": place.gateway}[way]


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    return await asyncio.open_connection(place.hostname, place.port)


async def _answer(reader: asyncio.StreamReader, began: float) -> tuple[float, float]:
    """Seconds to the first content, and to the end. RuntimeError when it is not a success."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(
        line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line
    )
    if b" 200 " not in head[:16]:
        said = await reader.readexactly(int(fields["content-length"]))
        raise RuntimeError(said.decode(errors="replace"))
    if "content-length" in fields:
        await reader.readexactly(int(fields["content-length"]))
        now = time.perf_counter() - began
        return now, now
    seen, first = b"", 0.0
    while not seen.endswith(_WHOLE):
        piece = await reader.read(1 << 16)
        if not first and b'"delta"' in seen[-64:] + piece:
            first = time.perf_counter() - began
        seen = seen[-4_096:] + piece
        if not piece:
            break
    if b"[DONE]" not in seen or not first:
        raise RuntimeError(seen[-300:].decode(errors="replace"))
    return first, time.perf_counter() - began


async def in_turn(
    place: Market, number: int, title: str, done: int = 0, **more: Any
) -> dict[str, list[tuple[float, float]]]:
    """Seconds to the first content and to the end of single requests, one after the other, on each
    way in turn. `done` requests of the payer's channel were there before.
    """
    data = body(max_tokens=1, **more)
    ceiling = (len(data) + 256) * PROMPT + COMPLETION
    cost = 7 * PROMPT + COMPLETION
    channel = Channel.number(0)
    paid = [channel.payment(n * cost + ceiling) for n in range(done, done + number + WARM)]
    asked = ways(place, data, paid)
    ends = {way: await _connect(url_of(place, way)) for way in WAYS}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for n in track(range(number + WARM), title):
        for way in WAYS:
            reader, writer = ends[way]
            began = time.perf_counter()
            writer.write(asked[way][n])
            seconds = await _answer(reader, began)
            if n >= WARM:  # the first ones warm caches
                found[way].append(seconds)
    for _, writer in ends.values():
        writer.close()
    return found


async def at_once(url: str, requests: Sequence[bytes]) -> list[tuple[float, float]]:
    """The same of requests that are sent all together, each on a connection of its own."""

    async def one(data: bytes) -> tuple[float, float]:
        began = time.perf_counter()
        reader, writer = await _connect(url)
        writer.write(data)
        try:
            return await _answer(reader, began)
        finally:
            writer.close()

    return await asyncio.gather(*(one(data) for data in requests))
