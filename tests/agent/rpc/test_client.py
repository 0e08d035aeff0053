# SPDX-License-Identifier: Apache-2.0
"""The JSON-RPC pool: endpoints that are down, lie, lag or limit, and the classes of errors."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from eth_abi.abi import encode

from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import (
    BlockUnknown,
    ChainError,
    Reverted,
    RpcError,
    Transport,
    TxRefused,
)
from teraproof.rpc.words import as_revert, revert_reason
from tests.agent import counter
from tests.agent.faulty_rpc import FaultyRpc, Mode
from tests.support.anvil import Anvil

BROKEN = [
    Mode.HANG,
    Mode.DROP,
    Mode.DROP_RESPONSE,
    Mode.ERROR_500,
    Mode.RATE_LIMIT,
    Mode.RATE_LIMIT_RPC,
    Mode.GARBAGE,
]


@pytest.fixture
def bad(anvil: Anvil) -> Iterator[FaultyRpc]:
    with FaultyRpc(anvil.url) as proxy:
        yield proxy


@pytest.fixture
def good(anvil: Anvil) -> Iterator[FaultyRpc]:
    with FaultyRpc(anvil.url) as proxy:
        yield proxy


@pytest.fixture
def pool(anvil: Anvil, bad: FaultyRpc, good: FaultyRpc) -> Iterator[RpcPool]:
    made = RpcPool([bad.url, good.url], anvil.chain_id, timeout=0.4)
    yield made
    made.close()


@pytest.fixture
def alone(anvil: Anvil, bad: FaultyRpc) -> Iterator[RpcPool]:
    made = RpcPool([bad.url], anvil.chain_id, timeout=0.4)
    yield made
    made.close()


def test_no_endpoints__refused() -> None:
    with pytest.raises(ChainError, match=r"set chain\.rpc_urls"):
        RpcPool([], 1)


def test_unreachable__one_line_without_the_url() -> None:
    pool = RpcPool(["http://127.0.0.1:9/secret-key"], 1, timeout=0.2, max_wait=0.1)
    with pytest.raises(Transport) as caught:
        pool.head()
    assert "secret-key" not in str(caught.value) + repr(pool.endpoints)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", BROKEN)
def test_read__one_endpoint_broken__other_answers(
    pool: RpcPool, bad: FaultyRpc, good: FaultyRpc, mode: Mode
) -> None:
    bad.fault(mode)
    assert pool.head().number == 0
    assert pool.block(0, fresh=True).number == 0
    asked = len(bad.calls)
    assert asked <= 1, "an endpoint that has failed is left alone at first"
    assert good.count("eth_getBlockByNumber") == 2


@pytest.mark.parametrize("mode", BROKEN)
def test_read__fails_once__asked_again(alone: RpcPool, bad: FaultyRpc, mode: Mode) -> None:
    bad.fault(mode, "eth_getBalance", times=1)
    assert alone.balance("0x" + "11" * 20) == 0
    assert bad.count("eth_getBalance") == 2


@pytest.mark.parametrize("mode", BROKEN)
def test_read__keeps_failing__transport(alone: RpcPool, bad: FaultyRpc, mode: Mode) -> None:
    bad.fault(mode)
    with pytest.raises(Transport):
        alone.head()
    assert alone.endpoints[0].failures > 0
    bad.clear()
    alone.endpoints[0].not_before = 0.0
    assert alone.head().number == 0
    assert alone.endpoints[0].failures == 0


def test_wrong_chain__never_used(pool: RpcPool, bad: FaultyRpc, good: FaultyRpc) -> None:
    bad.fault(Mode.WRONG_CHAIN)
    for _ in range(3):
        pool.head()
    assert {method for method, _ in bad.calls} == {"eth_chainId"}
    good.fault(Mode.WRONG_CHAIN)
    pool.endpoints[1].checked_at = None
    with pytest.raises(ChainError, match="no RPC endpoint is on chain 31337"):
        pool.block(0, fresh=True)


def test_lagging__not_asked_about_newer_blocks(anvil: Anvil, pool: RpcPool, bad: FaultyRpc) -> None:
    anvil.mine(10, interval=30)
    pool._wall_clock = lambda: 1e12  # this chain runs ahead of ours
    bad.fault(Mode.LAG, blocks=4)
    head = pool.head()
    assert head.number == 10
    before = bad.count("eth_getBalance")
    pool.balance("0x" + "11" * 20, head)
    assert bad.count("eth_getBalance") == before


def test_lagging__alone__its_head_counts(anvil: Anvil, alone: RpcPool, bad: FaultyRpc) -> None:
    anvil.mine(10)
    bad.fault(Mode.LAG, blocks=4)
    head = alone.head()
    assert head.number == 6
    assert alone.balance("0x" + "11" * 20, head) == 0
    with pytest.raises(BlockUnknown):
        alone.block(7)


def test_block__replaced__reads_at_it_fail(anvil: Anvil, alone: RpcPool) -> None:
    anvil.mine(5)
    old = alone.block(5)
    anvil.rollback(2)
    anvil.mine(2, interval=7)
    assert alone.block(5).hash != old.hash
    with pytest.raises(BlockUnknown):
        alone.balance("0x" + "11" * 20, old)


class Node:
    """A node that says what it is told to: a head, a hash for each block, an error for calls."""

    def __init__(self, head: int, branch: int = 0, time_of_head: int | None = None) -> None:
        self.head, self.branch = head, branch
        self.time = int(time.time()) if time_of_head is None else time_of_head
        self.error: dict[str, object] | None = None
        self.calls: list[dict[str, Any]] = []
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer = {"jsonrpc": "2.0", "id": request["id"], **node.answer(request)}
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def hash(self, number: int) -> bytes:
        return self.branch.to_bytes(16, "big") + number.to_bytes(16, "big")

    def answer(self, request: dict[str, Any]) -> dict[str, object]:
        self.calls.append(request)
        if request["method"] == "eth_chainId":
            return {"result": "0x1"}
        if request["method"] == "eth_call":
            return {"error": self.error} if self.error else {"result": f"0x{self.branch:02x}"}
        asked = request["params"][0]
        number = self.head if asked == "latest" else int(asked, 16)
        if number > self.head:
            return {"result": None}
        block = {"number": hex(number), "hash": "0x" + self.hash(number).hex()}
        return {"result": {**block, "timestamp": hex(self.time)}}


@contextlib.contextmanager
def pool_of(*nodes: Node, **options: Any) -> Iterator[RpcPool]:
    pool = RpcPool([node.url for node in nodes], 1, timeout=2, **options)
    try:
        yield pool
    finally:
        pool.close()
        for node in nodes:
            node.server.shutdown()
            node.server.server_close()


@pytest.mark.parametrize(
    "message",
    ["execution reverted: rate limit", "execution reverted: header not found: too many requests"],
)
@pytest.mark.parametrize("data", ["0x08c379a0", None])
def test_eth_call__revert_that_looks_like_the_node__endpoints_stay_in_use(
    message: str, data: str | None
) -> None:
    nodes = Node(5), Node(5)
    with pool_of(*nodes) as pool:
        for node in nodes:
            node.error = {"code": 3, "message": message, "data": data}
        for _ in range(3):
            with pytest.raises(Reverted):
                pool.eth_call("0x" + "11" * 20, b"", "latest")
        assert [endpoint.failures for endpoint in pool.endpoints] == [0, 0]
        assert pool.head().number == 5


def test_eth_call__gas_is_capped_on_request() -> None:
    node = Node(5)
    with pool_of(node, rounds=1, max_wait=0) as pool:
        pool.eth_call("0x" + "11" * 20, b"", "latest", gas=3_000_000)
        pool.eth_call("0x" + "11" * 20, b"", "latest")
    calls = [request["params"][0] for request in node.calls if request["method"] == "eth_call"]
    assert [call.get("gas") for call in calls] == [hex(3_000_000), None]


def test_call__one_round__asked_once() -> None:
    node = Node(5)
    with pool_of(node, rounds=1, max_wait=0) as pool:
        pool.head()
        node.error = {"code": -32005, "message": "rate limit exceeded"}
        with pytest.raises(Transport):
            pool.eth_call("0x" + "11" * 20, b"", "latest")
    assert sum(request["method"] == "eth_call" for request in node.calls) == 1


@pytest.mark.parametrize("old", [False, True], ids=["chain runs", "chain stands"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_agreed_block__liar_far_ahead__not_believed(place: int, old: bool) -> None:
    moment = 5 if old else None
    honest = [Node(100, 0, moment), Node(101, 0, moment)]
    liar = Node(10**9, 7, moment)
    nodes = [*honest[:place], liar, *honest[place:]]
    with pool_of(*nodes) as pool:
        head = pool.head()
        assert head.number == 101
        block = pool.agreed_block(head.number - 2)
        assert block.hash == honest[0].hash(99)
        assert pool.eth_call("0x" + "11" * 20, b"", block) == b"\0"
        assert "another block" in pool.endpoints[place].trouble


def test_agreed_block__liar_a_little_ahead__lower_block_that_two_have() -> None:
    honest, liar = Node(100), Node(110)
    liar.hash = lambda number: honest.hash(number) if number <= 100 else b"\xee" * 32  # type: ignore[method-assign]  # a lie
    with pool_of(liar, honest) as pool:
        head = pool.head()
        assert head.number == 100, "what both have reached"
        assert pool.agreed_block(head.number - 2).hash == honest.hash(98)


def test_agreed_block__two_disagree__nothing_is_done() -> None:
    with (
        pool_of(Node(100), Node(100, branch=7)) as pool,
        pytest.raises(ChainError, match="do not agree about block 98"),
    ):
        pool.agreed_block(pool.head().number - 2)


def test_agreed_block__one_alone_answers__its_block_and_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dead, alive = Node(100), Node(100)
    dead.server.shutdown()
    dead.server.server_close()
    with pool_of(alive) as alone:
        assert alone.agreed_block(98).number == 98
        assert "unchecked" not in caplog.text
        with contextlib.closing(RpcPool([dead.url, alive.url], 1, timeout=1)) as pool:
            for _ in range(2):
                assert pool.agreed_block(98).hash == alive.hash(98)
    assert caplog.text.count("unchecked") == 1


def test_agreed_block__other_stands_still__does_not_hold_us_up() -> None:
    old = Node(50, time_of_head=int(time.time()) - 3600)
    with pool_of(old, Node(1_000)) as pool:
        assert pool.head().number == 1_000
        assert pool.agreed_block(998).number == 998


@pytest.mark.parametrize("field", ["head", "time"])
def test_block__numbers_beyond_63_bits__no_answer(field: str) -> None:
    node = Node(100)
    setattr(node, field, 2**63)
    with pool_of(node, max_wait=0) as pool, pytest.raises(Transport, match="beyond"):
        pool.call("eth_chainId")
        pool.head()


def test_eth_call__reverts__reason(anvil: Anvil, alone: RpcPool) -> None:
    contract = counter.deploy(anvil)
    head = alone.head()
    assert alone.eth_call(contract, counter.calldata(1), head) == b""
    with pytest.raises(Reverted) as caught:
        alone.eth_call(contract, counter.calldata(1, counter.REFUSE), head)
    assert caught.value.reason == counter.REASON
    with pytest.raises(Reverted):
        alone.estimate_gas(anvil.accounts[0].address, contract, counter.calldata(1, counter.REFUSE))
    assert alone.code(contract, head) != b""


def test_refused_request__rpc_error(alone: RpcPool) -> None:
    with pytest.raises(RpcError) as caught:
        alone.call("no_such_method")
    assert caught.value.number == -32601
    assert alone.endpoints[0].failures == 0


def test_logs__range_too_large__halved(anvil: Anvil, alone: RpcPool, bad: FaultyRpc) -> None:
    contract = counter.deploy(anvil)
    for slot in range(1, 8):
        anvil.wait(anvil.send(anvil.accounts[1].address, contract, counter.calldata(slot)))
    bad.fault(Mode.RANGE, blocks=2)
    found = alone.logs([contract], 0, anvil.number())
    assert [int.from_bytes(entry.topics[0], "big") for entry in found] == list(range(1, 8))
    assert alone.logs([contract], 5, 4) == []


def test_receipt__from_whoever_has_it(anvil: Anvil, pool: RpcPool, bad: FaultyRpc) -> None:
    bad.fault(Mode.NULL, "eth_getTransactionReceipt")
    bad.fault(Mode.NULL, "eth_getTransactionByHash")
    account = anvil.accounts[0].address
    sent = bytes.fromhex(anvil.send(account, account, value=1)[2:])
    anvil.wait("0x" + sent.hex())
    receipt = pool.receipt(sent)
    assert receipt is not None
    assert (receipt.status, receipt.gas_used) == (1, 21_000)
    assert pool.knows_transaction(sent)
    assert pool.receipt(bytes(32)) is None
    assert not pool.knows_transaction(bytes(32))


def test_broadcast__any_endpoint_accepts(anvil: Anvil, pool: RpcPool, bad: FaultyRpc) -> None:
    account = anvil.accounts[0]
    fees = pool.fees()
    assert fees.base is not None
    signed = account.sign_transaction(
        {
            "type": 2,
            "chainId": anvil.chain_id,
            "nonce": 0,
            "to": account.address,
            "value": 0,
            "gas": 21_000,
            "maxFeePerGas": 2 * fees.base + fees.tip,
            "maxPriorityFeePerGas": fees.tip,
        }
    )
    bad.fault(Mode.NONCE_TOO_LOW, "eth_sendRawTransaction")
    answer = pool.broadcast(bytes(signed.raw_transaction))
    assert answer.accepted
    assert [type(error) for error in answer.errors] == [TxRefused]
    answer = pool.broadcast(b"\x02nonsense")
    assert not answer.accepted
    anvil.wait("0x" + bytes(signed.hash).hex())
    assert anvil.nonce(account.address) == 1


def test_observer__sees_each_request(anvil: Anvil, bad: FaultyRpc) -> None:
    seen: list[tuple[str, str]] = []
    pool = RpcPool(
        [bad.url],
        anvil.chain_id,
        timeout=0.4,
        observer=lambda endpoint, method, outcome, seconds: seen.append((method, outcome)),
    )
    bad.fault(Mode.ERROR_500, "eth_getBalance", times=1)
    pool.balance("0x" + "11" * 20)
    pool.close()
    assert ("eth_getBalance", "failed") in seen
    assert seen[-1] == ("eth_getBalance", "ok")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no reason given"),
        (bytes.fromhex("08c379a0") + encode(["string"], ["jobs: late"]), "jobs: late"),
        (bytes.fromhex("08c379a0") + encode(["string"], ["a\nb"]), "a b"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [17]), "panic 0x11"),
        (bytes.fromhex("08c379a0") + b"\xff" * 9, "unreadable reason 0x08c379a0ffffffffffffffffff"),
        (b"\x01\x02\x03\x04", "0x01020304"),
    ],
)
def test_revert_reason(data: bytes, reason: str) -> None:
    assert revert_reason(data) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RpcError(3, "execution reverted", "0x"), "no reason given"),
        (RpcError(-32000, "execution reverted: jobs: late"), "jobs: late"),
        (RpcError(3, "execution reverted", {"data": "0x01020304"}), "0x01020304"),
        (RpcError(3, "execution reverted: x", "0xzz"), "x"),
        (RpcError(-32000, "insufficient funds for gas"), None),
    ],
)
def test_as_revert(error: RpcError, reason: str | None) -> None:
    found = as_revert(error)
    assert (found.reason if found else None) == reason
