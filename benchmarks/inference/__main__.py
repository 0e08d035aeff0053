# SPDX-License-Identifier: Apache-2.0
"""What the provider's front and the gateway cost, next to the bare model server in the same run.

The model server is played, and answers at once. It, the provider's front, the gateway and the
payers are processes of their own. Everything is measured with the stores on the disk, and single
requests with the stores in memory as well: the difference is what the disk costs.

    .venv/bin/python -m benchmarks.inference [--requests 500] [--streams 1000] [--folder .build]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.inference.payers import WARM, WAYS, at_once, body, in_turn, url_of, ways
from benchmarks.inference.places import COMPLETION, DOMAIN, PAYER, PROMPT, Channel, Market, market
from provider_agent.http.descriptors import open_files
from teraproof.protocol import messages
from teraproof.protocol.channels import Voucher
from teraproof.protocol.payments import Payment

TOKENS, PAUSE = 20, 1.0  # of each of many streams, and seconds between two tokens
_MEMORY = Path("/dev/shm")  # a folder in memory, where a system has one
_SYNCS, _WRITTEN = 200, 8_192  # writes that the disk is tried with, and bytes of each


def vouchers_a_second(seconds: float = 2.0) -> float:
    """How many vouchers one thread checks: header to signer."""
    headers = [Channel.number(0).payment(n + 1).encode() for n in range(500)]
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        payment = Payment.decode(headers[done % len(headers)])
        said = Voucher(payment.voucher.channel, payment.voucher.amount)
        if messages.recover(DOMAIN, said, payment.voucher.signature) != PAYER.address:
            raise AssertionError("a voucher is not its payer's")
        done += 1
    return done / (time.perf_counter() - began)


def syncs(folder: Path) -> list[float]:
    """Seconds that the disk takes for what a commit writes, again and again."""
    found = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            file.write(bytes(_WRITTEN))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - began)
    return found


def _at(values: Sequence[float], share: float) -> str:
    ordered = sorted(values)
    return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3:,.2f}"


def _row(table: Table, name: str, values: Sequence[float], *more: str) -> None:
    table.add_row(name, _at(values, 0.5), _at(values, 0.99), *more)


_Found = dict[str, list[tuple[float, float]]]


def _times(table: Table, what: str, found: _Found, part: int, cpu: dict[str, str]) -> None:
    """A way's times, and what each adds to the bare server in the same turn."""
    for way in WAYS:
        _row(table, f"{what}, {_NAMES[way]}", [one[part] for one in found[way]], "")
    for way in WAYS[1:]:
        pairs = zip(found["bare"], found[way], strict=True)
        added = [paid[part] - bare[part] for bare, paid in pairs]
        _row(table, f"[bold]{what}, added by {_ADDED[way]}[/]", added, cpu[way])


_NAMES = {"bare": "bare", "provider": "provider", "gateway": "gateway and provider"}
_ADDED = {"provider": "the provider", "gateway": "gateway and provider"}


def one_after_the_other(folder: Path, number: int, title: str, console: Console) -> None:
    """Single requests; a table."""
    table = Table(title=f"{number} requests of each kind, one after the other; {title}")
    for name in ("", "p50 ms", "p99 ms", "CPU ms a request"):
        table.add_column(name, justify="right" if name else "left")
    _row(table, "a write made durable (fdatasync)", syncs(folder), "")
    with market(1, 0.0, folder) as place:
        done = 0
        for what, parts, more in (
            ("in one piece", {"whole": 0}, {}),
            ("stream", {"first content": 0, "whole": 1}, {"stream": True}),
        ):
            before = place.reports()
            found = asyncio.run(in_turn(place, number, f"{what}, {title}", done, **more))
            done += number + WARM
            cpu = _cpu(place, before, number + WARM)
            for name, part in parts.items():
                label = what if name == "whole" and len(parts) == 1 else f"{what}, {name}"
                _times(table, label, found, part, cpu)
    console.print(table)


def _cpu(place: Market, before: Sequence[object], number: int) -> dict[str, str]:
    """Of each process for a request. The provider serves two in each turn."""
    fronts, gateways = (
        (after.cpu - one.cpu) * 1e3  # type: ignore[attr-defined]  # reports
        for one, after in zip(before, place.reports(), strict=True)
    )
    provider, gateway = fronts / (2 * number), gateways / number
    return {"provider": f"{provider:.2f}", "gateway": f"{gateway:.2f} + {provider:.2f}"}


def all_at_once(folder: Path, number: int, console: Console) -> None:
    """Many streams; a table. AssertionError when accounts and receipts differ."""
    data = body(stream=True, max_tokens=TOKENS)
    payments = [Channel.number(salt).payment(10**9) for salt in track(range(number), "payers sign")]
    cost = number * (7 * PROMPT + TOKENS * COMPLETION)
    table = Table(
        title=f"{number:,} parallel streams on {number:,} channels, {TOKENS} tokens each, "
        f"{PAUSE * 1e3:,.0f} ms apart ({number / PAUSE:,.0f} tokens per second)"
    )
    for name in ("", "p50 ms", "p99 ms", "CPU s", "MiB before, now, at most"):
        table.add_column(name, justify="right" if name else "left")
    with market(number, PAUSE, folder) as place:
        asked = ways(place, data, payments)
        for way in WAYS:
            before = place.reports()
            console.print(f"{number:,} streams: {_NAMES[way]}")
            found = asyncio.run(at_once(url_of(place, way), asked[way]))
            after = place.reports()
            cpu = " + ".join(
                f"{now.cpu - then.cpu:.1f}" for then, now in zip(before, after, strict=True)
            )
            held = "; ".join(f"{one.before:.0f}, {one.now:.0f}, {one.peak:.0f}" for one in after)
            _row(table, f"first content, {_NAMES[way]}", [one[0] for one in found], "", "")
            shown = (cpu, held) if way != "bare" else ("", "")
            _row(table, f"whole, {_NAMES[way]}", [one[1] for one in found], *shown)
        front, gateway = place.reports()
    if (front.charged, gateway.charged) != (2 * cost, cost):
        raise AssertionError(f"charged {front.charged} and {gateway.charged}, served {2 * cost}")
    console.print(table)
    console.print("CPU and memory: provider, then gateway. All whole; accounts equal receipts.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, default=Path(".build"), help="where the stores are")
    wanted, console = parser.parse_args(), Console(width=120)
    open_files()
    wanted.folder.mkdir(parents=True, exist_ok=True)
    console.print(f"vouchers checked by one thread: {vouchers_a_second():,.0f} per second")
    one_after_the_other(wanted.folder, wanted.requests, "stores on the disk", console)
    if _MEMORY.is_dir():
        one_after_the_other(_MEMORY, wanted.requests, "stores in memory", console)
    all_at_once(wanted.folder, wanted.streams, console)


if __name__ == "__main__":
    main()
