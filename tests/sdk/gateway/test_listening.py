# SPDX-License-Identifier: Apache-2.0
"""The gateway's endpoint as a server of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx

from teraproof.gateway import serve
from tests.sdk.gateway.rig import running
from tests.support.sockets import sends_at_once


def test_endpoint__small_pieces_of_answers_leave_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, [], listen={"port": 0}) as rig:
            ready = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(serve.run(rig.gateway, list, ready.set_result))
            port = await ready
            async with httpx.AsyncClient() as client:
                await client.get(f"http://127.0.0.1:{port}/healthz")
                assert sends_at_once(port) == [True]
            os.kill(os.getpid(), signal.SIGTERM)
            await task

    asyncio.run(work())
