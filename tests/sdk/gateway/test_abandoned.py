# SPDX-License-Identifier: Apache-2.0
"""Applications that go away: whatever they have opened, nothing of it stays taken."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from tests.sdk.gateway.played import Played
from tests.sdk.gateway.rig import KEY, Rig, ask, running


async def leave(rig: Rig, version: str, read: int) -> None:
    """Ask for a stream, take `read` messages of the answer, and go."""
    body, sent = json.dumps(ask(stream=True)).encode(), list[Any]()
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if len(sent) == read:
            if version == "2.4":
                raise OSError
            await asyncio.Event().wait()  # the socket is full, and nobody reads
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": version},
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {KEY}".encode())],
    }
    try:
        await rig.gateway.app(scope, receive, send)
    except ClientDisconnect:
        assert version == "2.4"


@pytest.mark.parametrize("version", ["2.3", "2.4"])
@pytest.mark.parametrize("read", [0, 1, 4])
def test_stream_that_is_left__holds_nothing(version: str, read: int, tmp_path: Path) -> None:
    async def work() -> None:
        with Played() as provider:
            async with running(tmp_path, [provider], route={"canary_rate": 0}) as rig:
                await rig.words()  # with the deposit
                (key,) = rig.gateway.relay.means.keys.every()
                for _ in range(3):
                    await leave(rig, version, read)
                    assert rig.gateway.relay.live.running == 0
                    ledger = rig.gateway.relay.means.purse.ledger
                    while any(one.busy for one in ledger.channels.values()):
                        await asyncio.sleep(0.01)
                    assert key.reserved == 0
                    assert {row["outcome"] for row in rig.rows()} <= {"ok", "failed"}

    asyncio.run(work())
