# SPDX-License-Identifier: Apache-2.0
"""The memory of all answers together: what does not fit is refused before any work."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from provider_agent.modules.inference.memory import Memory
from teraproof.errors import Refused
from teraproof.protocol import inference, x402
from teraproof.protocol.errors import Code
from teraproof.protocol.inference_request import ModelRequest
from tests.agent.api_rig import wait_until
from tests.agent.inference.rig import Rig, Wallet, request_of, serve
from tests.support.model_server import Faults, ModelServer

MIB = 1 << 20


def taken(rig: Rig) -> int:
    return rig.front._routes._memory.taken


def asked(rig: Rig, kind: str = "chat", **body: Any) -> ModelRequest:
    return ModelRequest.of(kind, request_of(kind, **body), 100, rig.offer.models[0])


def ask_slowly(rig: Rig, wallet: Wallet, **body: Any) -> socket.socket:
    """A paid request whose client reads nothing."""
    terms = rig.terms(**body)
    paid = wallet.pay(wallet.row.charged + terms.amount, terms).encode()
    data = json.dumps(request_of("chat", **body), separators=(",", ":")).encode()
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    link.connect(("127.0.0.1", rig.front.port))
    head = (
        f"POST {inference.PATHS['chat']} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n{x402.SIGNATURE_HEADER}: {paid}\r\n\r\n"
    )
    link.sendall(head.encode() + data)
    return link


def answer_of(size: int) -> bytes:
    usage = {"prompt_tokens": 7, "completion_tokens": 10}
    text = "x" * size
    return json.dumps(
        {"model": "m", "choices": [{"message": {"content": text}}], "usage": usage}
    ).encode()


def test_many_at_once__above_the_bound_one_is_refused_before_it_is_paid_or_asked(
    tmp_path: Path,
) -> None:
    with serve(tmp_path, ModelServer(Faults(pause=30)), answers_mb=16) as rig:
        need = rig.front._routes._memory.room(asked(rig), 100)
        each = taken(rig)
        need.end()
        body: dict[str, Any] = {"logprobs": True, "top_logprobs": 20, "max_tokens": 64}
        threads, links = [], []

        def work(wallet: Wallet, payment: Any) -> None:
            with httpx.Client(timeout=60) as http:
                links.append(http)
                headers = {x402.SIGNATURE_HEADER: payment.encode()}
                try:
                    http.post(
                        rig.url + inference.PATHS["chat"],
                        json=request_of("chat", **body),
                        headers=headers,
                    )
                except httpx.HTTPError:
                    return

        terms = rig.terms(**body)
        fits = (16 * MIB) // (2 * (MIB + (256 << 10)))
        for salt in range(fits):
            wallet = rig.fund(salt=salt)
            thread = threading.Thread(
                target=work, args=(wallet, wallet.pay(terms.amount, terms)), daemon=True
            )
            thread.start()
            threads.append(thread)
        wait_until(lambda: len(rig.server.asked) == fits, 30)
        assert fits * 2 * MIB < taken(rig) <= 16 * MIB
        wallet = rig.fund(salt=99)
        answer = rig.ask(wallet.pay(terms.amount, terms), **body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_busy")
        assert len(rig.server.asked) == fits
        assert wallet.row.charged == 0 and not wallet.row.is_open
        assert each < 2 * MIB, "one that asks for little still fits"
        small = rig.terms(stream=True)
        rig.server.faults.pause = 0
        assert rig.ask(wallet.pay(small.amount, small), stream=True).status_code == 200


def test_answer_longer_than_was_asked_for__is_cut_off_and_costs_nothing(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        wallet, terms = rig.fund(), rig.terms()
        longest = rig.front._routes._memory.longest(asked(rig), 100)
        rig.server.faults.body = answer_of(longest + 2_000)
        answer = rig.ask(wallet.pay(terms.amount, terms))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_away")
        assert wallet.row.charged == 0 and taken(rig) == 0
        rig.server.faults.body = answer_of(longest - 2_000)
        assert rig.ask(wallet.pay(terms.amount, terms)).status_code == 200
        wait_until(lambda: taken(rig) == 0, 20)


@pytest.mark.parametrize(
    ("kind", "much", "less"),
    [
        ("embeddings", {"input": ["a"] * 20}, {"input": ["a"] * 19}),
        (
            "chat",
            {"logprobs": True, "top_logprobs": 20, "max_tokens": 64, "n": 2},
            {"logprobs": True, "top_logprobs": 20, "max_tokens": 63, "n": 2},
        ),
    ],
)
def test_answer_that_cannot_fit__the_model_makes_it_once_and_not_again(
    tmp_path: Path, kind: str, much: dict[str, Any], less: dict[str, Any]
) -> None:
    """It is cut off and costs nothing, so a payer would have the model work for nothing."""
    with serve(tmp_path, answer_mb=1) as rig:
        wallet, terms = rig.fund(), rig.terms(kind, **much)
        rig.server.faults.body = answer_of(MIB + 2_000)
        said = rig.ask(wallet.pay(terms.amount, terms), kind, **much)
        assert said.json()["error"]["code"] == "upstream_away"
        asked_so_far = len(rig.server.asked)
        for _ in range(3):
            said = rig.ask(wallet.pay(terms.amount, terms), kind, **much)
            assert said.status_code == 422 and "longer than 1 MiB" in said.text, said.text
        assert len(rig.server.asked) == asked_so_far and wallet.row.charged == 0
        assert not wallet.row.is_open and taken(rig) == 0
        rig.server.faults.body = answer_of(1_000)
        assert rig.ask(wallet.pay(10**6), kind, **less).status_code == 200
        if kind == "chat":
            assert rig.ask(wallet.pay(10**6), stream=True, **much).status_code == 200
            assert rig.ask(wallet.pay(10**6), max_tokens=64).status_code == 200, "another form"
        else:
            much |= {"encoding_format": "base64"}
            assert rig.ask(wallet.pay(10**6), kind, **much).status_code == 200, "another form"


def test_client_that_does_not_read__holds_its_memory_until_it_goes(tmp_path: Path) -> None:
    with serve(tmp_path, model={"max_completion": 40_000}) as rig:
        rig.server.faults.body = answer_of(7 * MIB)  # more than sockets hold
        wallet = rig.fund()
        link = ask_slowly(rig, wallet, max_tokens=30_000)
        wait_until(lambda: wallet.row.charged > 0 and not wallet.row.is_open, 20)
        wait_until(lambda: rig.front._routes.running == 0, 20)
        for _ in range(10):
            assert taken(rig) > 14 * MIB
            time.sleep(0.05)
        link.close()
        wait_until(lambda: taken(rig) == 0, 20)


@pytest.mark.parametrize("kind", list(inference.PATHS))
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("faults", [Faults(), Faults(status=400), Faults(body=b"<html>")])
def test_however_a_request_ends__its_memory_comes_back(
    tmp_path: Path, kind: str, streams: bool, faults: Faults
) -> None:
    with serve(tmp_path, ModelServer(faults)) as rig:
        body: dict[str, Any] = {"stream": True} if streams and kind != "embeddings" else {}
        wallet, terms = rig.fund(), rig.terms(kind, **body)
        rig.ask(wallet.pay(terms.amount, terms), kind, **body)
        rig.ask(wallet.pay(1), kind, **body)
        wait_until(lambda: taken(rig) == 0, 20)


def test_room__what_was_asked_for_bounds_it_and_it_is_given_back_once(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        memory = Memory(10 * MIB, 4 * MIB)
        little, much = asked(rig), asked(rig, logprobs=True, max_tokens=64)
        many = asked(rig, "embeddings", input=["a"] * 100)
        assert memory.longest(little, 100) < memory.longest(much, 100) < 4 * MIB
        assert memory.longest(many, 100) == 4 * MIB
        rooms = [memory.room(many, 100)]
        with pytest.raises(Refused) as error:
            memory.room(many, 100)
        assert error.value.code is Code.SERVER_BUSY
        rooms.append(memory.room(asked(rig, stream=True), 100))
        for room in (*rooms, *rooms):
            room.end()
        assert memory.taken == 0
        kept = memory.room(little, 100)
        kept.keep()
        kept.leave()
        assert memory.taken > 0
        kept.end()
        kept.leave()
        assert memory.taken == 0
