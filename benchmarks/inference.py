# SPDX-License-Identifier: Apache-2.0
"""What the provider's front of paid inference costs, next to the bare model server in the same run.

The model server is played, and answers at once. It, the front and the payers are processes of their
own. Payers sign their vouchers before the clock starts: that is their own cost.

    .venv/bin/python -m benchmarks.inference [--requests 500] [--streams 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eth_account import Account
from rich.console import Console
from rich.progress import track

from provider_agent.core.metrics import Metrics
from provider_agent.http.descriptors import open_files
from provider_agent.modules.inference.front import Front
from provider_agent.modules.inference.offers import Payee
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.tables import TABLES
from provider_agent.store import Store
from provider_agent.tx.keys import OperatorKey
from teraproof.protocol import channels, messages, x402
from teraproof.protocol.channels import ChannelConfig, channel_id
from teraproof.protocol.payments import Kind, Payment
from teraproof.protocol.x402 import ChannelState, SignedVoucher
from tests.support.model_server import Faults, ModelServer, running

CHAIN = 31337
OPERATOR = Account.from_key(b"\x01" * 32)
PAYER = Account.from_key(b"\x02" * 32)
TOKEN = messages.Domain(CHAIN, "0x" + "11" * 20, "Dollar", "1")
RECEIVER = "0x" + "22" * 20
MODEL = "tiny"
BALANCE = 10**12
#: Units of the token for a token of the prompt and of the answer.
PROMPT, COMPLETION = 15, 60
WARM = 20  # requests that are not counted
TOKENS, PAUSE = 20, 1.0  # of each of many streams, and seconds between two tokens
_DOMAIN = channels.channels_domain(CHAIN)
_PATH = "/v1/chat/completions"
_WHOLE = b"0\r\n\r\n"


@dataclass(frozen=True)
class Channel:
    """A payer's channel; parallel requests of one payer have one each, by salt."""

    config: ChannelConfig
    id: bytes

    @classmethod
    def number(cls, salt: int) -> Channel:
        """The channel with this salt."""
        config = ChannelConfig(
            payer=PAYER.address,
            payer_authorizer=PAYER.address,
            receiver=RECEIVER,
            receiver_authorizer=OPERATOR.address,
            token=TOKEN.contract,
            withdraw_delay=86_400,
            salt=salt.to_bytes(32, "big"),
        )
        return cls(config, channel_id(CHAIN, config))

    def payment(self, total: int) -> Payment:
        """A signed voucher over a sum."""
        said = channels.Voucher(self.id, total)
        voucher = SignedVoucher(self.id, total, messages.sign(_DOMAIN, said, PAYER))
        return Payment(Kind.VOUCHER, self.config, voucher)


def _upstream(pipe: Connection, pause: float) -> None:
    open_files()
    with running(ModelServer(Faults(pause=pause), keeps=False)) as server:
        pipe.send(server.url)
        pipe.recv()


def _front(pipe: Connection, upstream: str, folder: str, number: int) -> None:
    sys.setswitchinterval(0.001)  # as the agent does
    store = Store(Path(folder) / "agent.sqlite", tables=(TABLES,))
    book = ChannelBook(store)
    with book.transaction():
        for salt in range(number):
            channel = Channel.number(salt)
            book.see(channel.config, ChannelState(channel.id, BALANCE, 0), 1)
    settings = InferenceSettings.model_validate({
        "host": "127.0.0.1", "port": 0, "max_parallel": number + 16, "per_address": number + 64,
        "max_unclaimed": "1000000",
        "models": {MODEL: {
            "upstream": upstream, "prompt_price": str(PROMPT), "max_parallel": number + 16,
            "completion_price": str(COMPLETION),
        }},
    })  # fmt: skip
    front = Front(
        settings, book, Payee(CHAIN, OPERATOR.address, TOKEN, 6, lambda: RECEIVER),
        OperatorKey(OPERATOR), Metrics(), public_url="http://127.0.0.1", files=open_files(),
    )  # fmt: skip
    before = _memory()
    front.start()
    pipe.send(front.port)
    while pipe.recv() != "end":
        rows = book.channels(limit=number)
        charged = sum(row.charged for row in rows)
        pipe.send((before, _memory(), _peak(), charged, time.process_time()))
    front.close()
    store.close()


def _memory() -> float:
    """MiB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def _peak() -> float:
    """MiB that this process has held at the most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass(frozen=True)
class Report:
    """MiB of the front before, now and at its peak; units that all channels were charged; seconds
    of CPU since it began.
    """

    before: float
    now: float
    peak: float
    charged: int
    cpu: float


@dataclass
class Market:
    """The two servers."""

    upstream: str
    front: str
    pipe: Connection

    def report(self) -> Report:
        """How the front stands."""
        self.pipe.send("report")
        return Report(*self.pipe.recv())


@contextmanager
def market(number: int, pause: float) -> Iterator[Market]:
    """Both servers in processes of their own, with as many channels."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def begin(target: Any, *args: Any) -> tuple[Any, Connection]:
            here, there = spawn.Pipe()
            process = spawn.Process(target=target, args=(there, *args), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(here.send, "end")
            return here.recv(), here

        url, _ = begin(_upstream, pause)
        port, pipe = begin(_front, url, folder, number)
        yield Market(url, f"http://127.0.0.1:{port}/v1", pipe)


# ---------------------------------------------------------------------- payers


def _request(url: str, body: bytes, payment: Payment | None) -> bytes:
    place = urlsplit(url)
    lines = [
        f"POST {place.path}/chat/completions HTTP/1.1",
        f"host: {place.netloc}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    if payment is not None:
        lines.append(f"{x402.SIGNATURE_HEADER}: {payment.encode()}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    return await asyncio.open_connection(place.hostname, place.port)


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """An answer in one piece. RuntimeError when it is not a success."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(
        line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line
    )
    body = await reader.readexactly(int(fields["content-length"]))
    if b" 200 " not in head[:16]:
        raise RuntimeError(body.decode(errors="replace"))
    return body


def _body(**more: Any) -> bytes:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **more}
    return json.dumps(asked).encode()


async def overhead(place: Market, number: int) -> dict[str, list[float]]:
    """Seconds of single requests one after the other, bare and paid in turn."""
    body = _body(max_tokens=1)
    ceiling = (len(body) + 256) * PROMPT + COMPLETION
    cost = 7 * PROMPT + COMPLETION
    channel = Channel.number(0)
    paid = [channel.payment(n * cost + ceiling) for n in range(number + WARM)]
    bare = _request(place.upstream, body, None)
    found: dict[str, list[float]] = {"bare": [], "paid": []}
    ends = {name: await _connect(url) for name, url in
            (("bare", place.upstream), ("paid", place.front))}  # fmt: skip
    for n, payment in enumerate(track(paid, "one after the other")):
        for name, data in (("bare", bare), ("paid", _request(place.front, body, payment))):
            reader, writer = ends[name]
            began = time.perf_counter()
            writer.write(data)
            await _answer(reader)
            if n >= WARM:  # the first ones warm caches
                found[name].append(time.perf_counter() - began)
    return found


async def _one_stream(url: str, data: bytes) -> tuple[float, float]:
    """Seconds to the first content, and to the end."""
    began = time.perf_counter()
    reader, writer = await _connect(url)
    writer.write(data)
    seen, first = b"", 0.0
    while True:
        piece = await reader.read(1 << 16)
        if not first and b'"delta"' in seen[-64:] + piece:
            first = time.perf_counter() - began
        seen = seen[-4_096:] + piece
        if not piece or seen.endswith(_WHOLE):
            break
    writer.close()
    if b"[DONE]" not in seen or not first:
        raise RuntimeError(seen[-300:].decode(errors="replace"))
    return first, time.perf_counter() - began


async def streams(url: str, requests: Sequence[bytes]) -> list[tuple[float, float]]:
    """All at once."""
    return await asyncio.gather(*(_one_stream(url, data) for data in requests))


def vouchers_a_second(seconds: float = 2.0) -> float:
    """How many vouchers one thread checks: header to signer."""
    headers = [Channel.number(0).payment(n + 1).encode() for n in range(500)]
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        payment = Payment.decode(headers[done % len(headers)])
        said = channels.Voucher(payment.voucher.channel, payment.voucher.amount)
        if messages.recover(_DOMAIN, said, payment.voucher.signature) != PAYER.address:
            raise AssertionError("a voucher is not its payer's")
        done += 1
    return done / (time.perf_counter() - began)


def _at(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _shown(name: str, values: Sequence[float]) -> str:
    return f"{name}: p50 {_at(values, 0.5) * 1e3:.2f} ms, p99 {_at(values, 0.99) * 1e3:.2f} ms"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--streams", type=int, default=1_000)
    wanted, console = parser.parse_args(), Console()
    open_files()
    console.print(f"vouchers checked by one thread: {vouchers_a_second():,.0f} per second")
    with market(1, 0.0) as place:
        start = place.report().cpu
        found = asyncio.run(overhead(place, wanted.requests))
        cpu = (place.report().cpu - start) / (wanted.requests + WARM)
    console.print(f"{wanted.requests} requests, one after the other:")
    for name, values in found.items():
        console.print("  " + _shown(name, values))
    added = [paid - bare for bare, paid in zip(found["bare"], found["paid"], strict=True)]
    console.print("  " + _shown("added by the provider", added))
    console.print(f"  CPU of the provider: {cpu * 1e3:.2f} ms per request")

    number = wanted.streams
    body = _body(stream=True, max_tokens=TOKENS)
    payments = [Channel.number(salt).payment(10**9) for salt in track(range(number), "payers sign")]
    with market(number, PAUSE) as place:
        bare = asyncio.run(streams(place.upstream, [_request(place.upstream, body, None)] * number))
        paid = asyncio.run(
            streams(place.front, [_request(place.front, body, one) for one in payments])
        )
        report = place.report()
    cost = number * (7 * PROMPT + TOKENS * COMPLETION)
    if report.charged != cost:
        raise AssertionError(f"charged {report.charged} units, served {cost}")
    console.print(
        f"{number} parallel streams on {number} channels, {TOKENS} tokens each, "
        f"{PAUSE * 1e3:.0f} ms apart ({number / PAUSE:,.0f} tokens per second):"
    )
    for name, pairs in (("bare", bare), ("paid", paid)):
        console.print("  " + _shown(f"{name}, first token", [one[0] for one in pairs]))
        console.print("  " + _shown(f"{name}, whole", [one[1] for one in pairs]))
    tokens = number * TOKENS / statistics.fmean(one[1] for one in paid)
    console.print(f"  {tokens:,.0f} tokens per second passed on; accounts equal receipts")
    console.print(
        f"  memory of the provider: {report.before:.0f} MiB, then {report.now:.0f}, "
        f"at most {report.peak:.0f}; CPU {report.cpu:.1f} s"
    )


if __name__ == "__main__":
    main()
