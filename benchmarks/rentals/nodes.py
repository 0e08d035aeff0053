# SPDX-License-Identifier: Apache-2.0
"""A node of the chain as an agent sees it: a process of its own, to be killed or to hang.

    python -m benchmarks.rentals.nodes PORT CHAIN     pass on what comes to PORT to the port CHAIN

The chain itself is behind it and goes on: anvil, when it is killed, forgets its blocks, and on a
real network other nodes make them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

_HOST = "127.0.0.1"
_ROOT = Path(__file__).resolve().parents[2]
_START = 60.0  # seconds
_PIECE = 1 << 16  # bytes


class Node:
    """See the module. Use as a context manager. `chain` is the URL of what is behind it."""

    def __init__(self, chain: str) -> None:
        self._chain = urlsplit(chain).port
        with socket.create_server((_HOST, 0)) as free:
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers, the same after each start."""
        return f"http://{_HOST}:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it takes connections. RuntimeError when it does not."""
        words = [sys.executable, "-m", "benchmarks.rentals.nodes", str(self.port), str(self._chain)]
        self._process = subprocess.Popen(words, cwd=_ROOT, stdin=subprocess.DEVNULL)
        end = time.monotonic() + _START
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection((_HOST, self.port), timeout=1.0).close()
                return
            time.sleep(0.1)
        self.kill()
        raise RuntimeError("a node does not start")

    def kill(self) -> None:
        """SIGKILL: connections break, and nobody listens any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def hang(self) -> None:
        """It takes connections and requests, and answers none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """The end of `hang`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that one side says to the other."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def _serve(port: int, chain: int) -> None:
    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, here = await asyncio.open_connection(_HOST, chain)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, here), _pass_on(there, writer))

    async with await asyncio.start_server(join, _HOST, port) as server:
        await server.serve_forever()


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    port, chain = map(int, arguments)
    asyncio.run(_serve(port, chain))


if __name__ == "__main__":
    main(sys.argv[1:])
