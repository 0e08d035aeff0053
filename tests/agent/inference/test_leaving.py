# SPDX-License-Identifier: Apache-2.0
"""A payer that goes away pays for what the model has made for it, whichever way it leaves."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from teraproof.protocol import inference, x402
from tests.agent.api_rig import wait_until
from tests.agent.inference.parts import CHAIN, OPERATOR
from tests.agent.inference.rig import Rig, Wallet, request_of, required, serve
from tests.support.model_server import Faults, ModelServer

DOMAIN = inference.receipt_domain(CHAIN)
PROMPT, TOKEN = 7 * 15, 60
KINDS = tuple(inference.PATHS)


def close(link: socket.socket) -> None:
    link.close()


def reset(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def half_close(link: socket.socket) -> None:
    link.shutdown(socket.SHUT_WR)


WAYS = (close, reset, half_close)


def ask(rig: Rig, wallet: Wallet, kind: str, **body: Any) -> socket.socket:
    """Send a paid request, and wait until the model works on it."""
    terms, before = rig.terms(kind, **body), len(rig.server.asked)
    paid = wallet.pay(wallet.row.charged + terms.amount, terms).encode()
    data = json.dumps(request_of(kind, **body), separators=(",", ":"), ensure_ascii=False).encode()
    link = socket.create_connection(("127.0.0.1", rig.front.port))
    head = (
        f"POST {inference.PATHS[kind]} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n{x402.SIGNATURE_HEADER}: {paid}\r\n\r\n"
    )
    link.sendall(head.encode() + data)
    wait_until(lambda: len(rig.server.asked) > before, 20)
    return link


def cost_of(kind: str, tokens: int = 10) -> int:
    return PROMPT + (0 if kind == "embeddings" else tokens * TOKEN)


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_answer__its_client_leaves_before_it_comes__charged_as_it_was_made(
    tmp_path: Path, kind: str, leave: Callable[[socket.socket], None]
) -> None:
    """Otherwise it would have the model work for nothing, again and again."""
    with serve(tmp_path, ModelServer(Faults(pause=0.3))) as rig:
        wallet = rig.fund()
        for times in (1, 2):
            link = ask(rig, wallet, kind)
            leave(link)
            wait_until(lambda: not wallet.row.is_open, 20)
            link.close()
            row = wallet.row
            assert row.charged == times * cost_of(kind)
            assert row.receipt is not None and row.receipt.receipt.cumulative == row.charged
            row.receipt.check(DOMAIN, OPERATOR.address)
        # The client that comes back, and counts nothing, is put right, and pays no more than once.
        shown = required(rig.ask(wallet.pay(rig.terms(kind).amount), kind)).accepts[0].state
        assert shown is not None and shown.charged == 2 * cost_of(kind)
        told = rig.http.post(rig.url + inference.VOUCHERS_PATH, json=wallet.pay(1).to_json()).json()
        assert told["receipt"]["cumulative"] == str(2 * cost_of(kind))
        rig.server.faults.pause = 0
        again = rig.ask(wallet.pay(shown.charged + rig.terms(kind).amount), kind)
        assert again.status_code == 200
        assert wallet.row.charged == 3 * cost_of(kind)


@pytest.mark.parametrize("leave", WAYS)
def test_whole_answer__its_client_leaves_while_it_comes__charged(
    tmp_path: Path, leave: Callable[[socket.socket], None]
) -> None:
    """More than what sockets hold: the client reads its beginning, and no more."""
    with serve(tmp_path, model={"max_completion": 40_000}) as rig:
        text = "word " * (1 << 20)
        usage = {"prompt_tokens": 7, "completion_tokens": 10}
        rig.server.faults.body = json.dumps(
            {"model": "x", "choices": [{"message": {"content": text}}], "usage": usage}
        ).encode()
        wallet = rig.fund()
        link = ask(rig, wallet, "chat", max_tokens=40_000)
        assert link.recv(12) == b"HTTP/1.1 200"
        leave(link)
        link.close()
        wait_until(lambda: not wallet.row.is_open and rig.front._routes.running == 0, 20)
        assert wallet.row.charged == cost_of("chat")


@pytest.mark.parametrize("leave", WAYS)
def test_whole_answer__its_client_leaves_and_the_server_fails__costs_nothing(
    tmp_path: Path, leave: Callable[[socket.socket], None]
) -> None:
    with serve(tmp_path, ModelServer(Faults(pause=0.3, body=b"<html>"))) as rig:
        wallet = rig.fund()
        link = ask(rig, wallet, "chat")
        leave(link)
        wait_until(lambda: not wallet.row.is_open, 20)
        link.close()
        assert wallet.row.charged == 0


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "embeddings"])
def test_stream__its_client_leaves__the_work_ends_and_what_went_by_is_charged(
    tmp_path: Path, kind: str, leave: Callable[[socket.socket], None]
) -> None:
    with serve(tmp_path, ModelServer(Faults(pause=0.05))) as rig:
        wallet, name = rig.fund(), "max_output_tokens" if kind == "responses" else "max_tokens"
        body: dict[str, Any] = {"stream": True, name: 60}
        link = ask(rig, wallet, kind, **body)
        seen = b""
        while seen.count(b" word") < 2:
            seen += link.recv(4_096)
        leave(link)
        wait_until(lambda: not wallet.row.is_open, 20)
        link.close()
        said = wallet.row.receipt
        assert said is not None and 2 <= said.receipt.completion_tokens < 60
        assert wallet.row.charged == said.receipt.cumulative
        assert wallet.row.charged >= 2 * TOKEN
        wait_until(lambda: rig.server.cut == 1, 20)
