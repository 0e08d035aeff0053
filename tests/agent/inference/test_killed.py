# SPDX-License-Identifier: Apache-2.0
"""`kill -9` at every write of the channel book, while a payer reads a stream step by step.

The payer has each receipt on its own disk as soon as it has come. Whatever the instant: what is
charged is what the receipts of the book say, at most one step beyond what the payer has; what was
served beyond what is charged is at most one step; and the same channel goes on, its vouchers paying
nothing twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provider_agent.modules.inference.journal import Journal
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.tables import TABLES
from provider_agent.store import Store
from teraproof.protocol import inference, x402
from teraproof.protocol.inference import PATHS, SignedReceipt
from tests.agent.inference.parts import CHAIN, voucher
from tests.agent.inference.rig import Rig, request_of, serve
from tests.support import budget
from tests.support.processes import forked

STEP, TOKENS, PRICE = 3, 8, 60
#: Writes of a stream of three steps: begin, hold, two vouchers, two steps, the end.
POINTS = 3 * 7


class Killer:
    """Kills this process at the n-th point: before a write, after it, and after its commit."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    def point(self) -> None:
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def with_points(*args: Any) -> Any:
            self.point()
            found = method(*args)
            self.point()
            return found

        return with_points

    def install(self) -> None:
        book: Any = ChannelBook
        for name in ("begin", "hold", "raise_voucher", "step", "end"):
            setattr(book, name, self.around(getattr(book, name)))
        journal: Any = Journal
        commit = journal._commit

        def committed(self_: Journal, parts: Any) -> None:
            for part in parts:
                part.loop = _Later(self.point, part.loop)
            commit(self_, parts)

        journal._commit = committed


class _Later:
    """An event loop that hears of a commit after the point."""

    def __init__(self, point: Callable[[], None], loop: Any) -> None:
        self._point, self._loop = point, loop

    def call_soon_threadsafe(self, *args: Any) -> None:
        self._point()
        self._loop.call_soon_threadsafe(*args)


def paid_stream(rig: Rig, kept: Path) -> None:
    """A payer that pays the next step when it has the receipt of the last one."""
    wallet = rig.fund()
    first = rig.terms(step=STEP, stream=True, max_tokens=TOKENS)
    headers = {
        x402.SIGNATURE_HEADER: wallet.pay(first.amount, first).encode(),
        inference.STEP_HEADER: str(STEP),
    }
    body, content, paid = request_of("chat", stream=True, max_tokens=TOKENS), b"", 1
    with (
        kept.open("ab", buffering=0) as disk,
        rig.http.stream("POST", rig.url + PATHS["chat"], json=body, headers=headers) as answer,
    ):
        for piece in answer.iter_raw():
            disk.write(piece)
            content += piece
            if content.count(inference.COMMENT) == paid and b"[DONE]" not in content:
                paid += 1
                total = min(paid * STEP, TOKENS) * PRICE
                voucher_ = wallet.pay(total, first).to_json()
                rig.http.post(rig.url + inference.VOUCHERS_PATH, json=voucher_)


def receipts_in(content: bytes) -> list[SignedReceipt]:
    """Those that have come whole."""
    parts = content.split(b"\n\n")[:-1]
    return [one for part in parts if (one := SignedReceipt.from_comment(part)) is not None]


def run(folder: Path, at: int) -> tuple[str, int]:
    """A stream in a process of its own that dies at a point."""

    def work() -> str:
        killer = Killer(at)
        with serve(folder, model={"prompt_price": "0", "completion_price": str(PRICE)}) as rig:
            killer.install()
            paid_stream(rig, folder / "content")
        return str(killer.seen)

    return forked(work)


def test_whole__the_sweep_covers_every_write(tmp_path: Path) -> None:
    said, code = run(tmp_path, 10**6)
    assert (int(said), code) == (POINTS, 0)


@pytest.mark.parametrize("at", budget.every(4, range(POINTS)))
def test_killed_at_a_write__nobody_loses_more_than_a_step(tmp_path: Path, at: int) -> None:
    _, code = run(tmp_path, at)
    assert code == -signal.SIGKILL
    content = (tmp_path / "content").read_bytes() if (tmp_path / "content").exists() else b""
    held = receipts_in(content)
    shown = held[-1].receipt.cumulative if held else 0
    served = content.count(b'"delta"') * PRICE

    store = Store(tmp_path / "agent.sqlite", tables=(TABLES,))
    try:
        book = ChannelBook(store)
        book.recover()
        (row,) = book.channels()
        written = 0 if row.receipt is None else row.receipt.receipt.cumulative
        assert row.charged == written <= row.voucher
        assert not row.is_open and row.reserved == 0
        assert shown <= row.charged <= shown + STEP * PRICE
        assert served - row.charged <= STEP * PRICE
        with pytest.raises(x402.PaymentUnfit):  # the voucher that paid it pays nothing more
            book.begin(voucher(row.channel, row.charged), STEP * PRICE, 10**9)
        again = book.begin(voucher(row.channel, row.charged + STEP * PRICE), STEP * PRICE, 10**9)
        assert again.number == row.number + 1
        assert again.opened_charged == row.charged
    finally:
        store.close()
    assert all(one.signer(inference.receipt_domain(CHAIN)) for one in held)
