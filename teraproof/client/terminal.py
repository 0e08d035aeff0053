# SPDX-License-Identifier: Apache-2.0
"""A program in a container of a lease, at the terminal of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace

from teraproof.client.dataplane import Place, Prover, Stream, connect
from teraproof.errors import LocalError
from teraproof.protocol import dataplane
from teraproof.protocol.dataplane import PIECE, Frame, Request, What
from teraproof.protocol.errors import Code

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def shell(place: Place, prover: Prover, request: Request) -> int:
    """Runs a program with this process's stdin, stdout and stderr; its exit code.

    Where stdin and stdout are a terminal, the program gets one of the same size, and the keys go to
    it as they are. LocalError when the connection ends before the program does.
    """
    at_terminal = os.isatty(_STDIN) and os.isatty(_STDOUT)
    rows, columns = _window() if at_terminal else (24, 80)
    wanted = replace(request, what=What.SHELL, tty=at_terminal, rows=rows, columns=columns)

    async def work() -> int:
        stream = await connect(place, wanted, prover)
        try:
            with _raw() if at_terminal else contextlib.nullcontext():
                return await _run(stream, at_terminal)
        finally:
            await stream.close()

    return asyncio.run(work())


async def _run(stream: Stream, at_terminal: bool) -> int:
    loop = asyncio.get_running_loop()
    if at_terminal:
        resizing: set[asyncio.Task[None]] = set()

        def resized() -> None:
            task = loop.create_task(stream.resize(*_window()))
            resizing.add(task)
            task.add_done_callback(resizing.discard)

        loop.add_signal_handler(signal.SIGWINCH, resized)
    with _typing(stream, loop):
        try:
            while True:
                kind, data = await stream.read()
                if kind is Frame.EXIT:
                    return dataplane.parse_exit_code(data)
                if kind in (Frame.DATA, Frame.STDERR):
                    target = _STDERR if kind is Frame.STDERR else _STDOUT
                    await asyncio.to_thread(_write, target, data)
        finally:
            if at_terminal:
                loop.remove_signal_handler(signal.SIGWINCH)


@contextlib.contextmanager
def _typing(stream: Stream, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Meanwhile a thread sends what comes at stdin. It takes no key after the end."""
    wake, ended = os.pipe()

    def read() -> None:
        with contextlib.suppress(LocalError, RuntimeError, OSError, CancelledError):
            while True:
                found, _, _ = select.select([_STDIN, wake], [], [])
                if wake in found:
                    return
                piece = os.read(_STDIN, PIECE)
                job = stream.write(piece) if piece else stream.finish()
                asyncio.run_coroutine_threadsafe(job, loop).result()
                if not piece:
                    return

    thread = threading.Thread(target=read, name="stdin", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(ended, b"x")
        # It may wait for the loop, which ends it: so nobody waits for it here.
        loop.run_in_executor(None, _after, thread, wake, ended)


def _after(thread: threading.Thread, *handles: int) -> None:
    thread.join(5)
    if not thread.is_alive():
        for handle in handles:
            os.close(handle)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """The terminal hands every key on, and is as it was afterwards."""
    before = termios.tcgetattr(_STDIN)
    try:
        tty.setraw(_STDIN)
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


def _window() -> tuple[int, int]:
    found = shutil.get_terminal_size()
    with contextlib.suppress(OSError):
        found = os.get_terminal_size(_STDOUT)
    return found.lines or 24, found.columns or 80  # some terminals say 0


def _write(target: int, data: bytes) -> None:
    (sys.stderr if target == _STDERR else sys.stdout).flush()
    while data:
        try:
            data = data[os.write(target, data) :]
        except BrokenPipeError:
            raise LocalError("nobody reads the output any more", Code.INTERRUPTED) from None
