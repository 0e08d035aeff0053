# SPDX-License-Identifier: Apache-2.0
"""The language model's process (`engine.mjs`), from Python: requests in, tokens out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.models import places


class EngineError(Exception):
    """The engine cannot answer; the line is for people."""


@dataclass(frozen=True)
class Request:
    """What to generate. `parts` are texts, each with whether marks of the template count in it.

    `forced` is an answer that is scored by one evaluation, up to a token that it would not choose.
    """

    parts: Sequence[tuple[str, bool]]
    max: int
    temperature: float = 0.0
    topP: float = 1.0  # as the engine calls it
    seed: int = 0
    top: int = 0
    schema: dict[str, Any] | None = None
    forced: Sequence[int] | None = None


@dataclass(frozen=True)
class Token:
    """A token, its logprob in nats, and the likeliest tokens at its place."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass
class Run:
    """What is known of an answer so far: its prompt's tokens, and how it ended."""

    prompt: int = 0
    end: str = ""
    tokens: list[Token] = field(default_factory=list)


@dataclass(frozen=True)
class Settings:
    """How a model is run. Hosts of one model differ in everything but the weights."""

    weights: Path
    sequences: int = 4
    context: int = 2048
    threads: int = 2
    batch: int = 512
    modules: Path = places.NODE_MODULES


class Engine:
    """One process with one model. Requests above `sequences` wait their turn."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._room = asyncio.Semaphore(settings.sequences)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Engine:
        found = self.settings
        arguments = [found.modules, found.weights, found.sequences, found.context]
        arguments += [found.threads, found.batch]
        self._process = await asyncio.create_subprocess_exec(
            str(places.node()),
            str(places.ENGINE),
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**22,
        )
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            raise EngineError("the engine has not started; its own lines are above")
        self._reader = asyncio.create_task(self._read(self._process.stdout))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            found = json.loads(line)
            queue = self._answers.get(found["id"])
            if queue is not None:
                queue.put_nowait(found)
        for queue in self._answers.values():
            queue.put_nowait({"error": "the engine has stopped"})

    def _send(self, line: dict[str, Any]) -> None:
        if self._process is None or self._process.returncode is not None:
            raise EngineError("the engine has stopped")
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def generate(self, request: Request, run: Run) -> AsyncGenerator[Token, None]:
        """The tokens of an answer. `run` gets the prompt's count first and the end last.

        Raises:
            EngineError: the request cannot be run.
        """
        async with self._room:
            number = next(self._numbers)
            queue = self._answers.setdefault(number, asyncio.Queue())
            ended = False
            try:
                self._send({"id": number, **asdict(request)})
                while not ended:
                    found = await queue.get()
                    if "error" in found:
                        ended = True
                        raise EngineError(str(found["error"]))
                    if "token" in found:
                        top = tuple((int(each), float(value)) for each, value in found["top"])
                        token = Token(int(found["token"]), float(found["logprob"]), top)
                        run.tokens.append(token)
                        yield token
                    elif "end" in found:
                        run.end, ended = str(found["end"]), True
                    else:
                        run.prompt = int(found["prompt"])
            finally:
                if not ended:
                    await self._cancel(number, queue)
                del self._answers[number]

    async def _cancel(self, number: int, queue: asyncio.Queue[dict[str, Any]]) -> None:
        """Stops an answer and waits for its end: until then its sequence is not free."""
        with contextlib.suppress(EngineError):
            self._send({"cancel": number})
            while True:
                found = await queue.get()
                if "error" in found or "end" in found:
                    return

    async def whole(self, request: Request) -> Run:
        """A whole answer."""
        run = Run()
        async for _ in self.generate(request, run):
            pass
        return run
