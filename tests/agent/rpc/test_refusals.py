# SPDX-License-Identifier: Apache-2.0
"""One endpoint's "no" is not the pool's: only what is about the call itself is an answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
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
    TxFault,
    TxRefused,
)
from tests.agent.stub_node import CHAIN, HTML, Raw, Refusal, Result, StubNode, bomb

SOMEBODY = "0x" + "11" * 20

REFUSALS = [
    Refusal(-32600, "Must be authenticated!", 401),
    Refusal(-32600, "SEPOLIA is not enabled for this app", 403),
    Refusal(-32000, "Unauthorized: You must authenticate your request with an API key", 401),
    Refusal(-32005, "Monthly capacity limit exceeded. Upgrade your plan."),
    Refusal(-32005, "daily request count exceeded, request rate limited"),
    Refusal(429, "compute units per second exceeded", 429),
    Refusal(-32016, "over rate limit"),
    Refusal(-32601, "the method is not available on your plan"),
    Refusal(-32601, "the method eth_call does not exist/is not available"),
    Refusal(-32602, "this parameter is only for paid tiers"),
    Refusal(-32002, "request timed out"),
    Refusal(-32046, "Cannot fulfill request"),
    Refusal(-32603, "internal error"),
    Refusal(-32000, "historical state 0xabc is not available"),
    Refusal(-32000, "missing trie node 00ff (path )"),
    Refusal(-32001, "daily quota used up", 403),
    Refusal(30, "Request timeout on the free tier, please upgrade your tier", 408),
    Refusal(0, "you have been reverted to the free plan"),
    Refusal("what", None),
    Refusal(10**40, ["a", {"b": 1}]),
    Raw(HTML, 403),
    Raw(HTML, 404),
    Raw(HTML, 413),
    Raw(HTML, 200),
    Raw(HTML, 301, {"location": "http://127.0.0.1:9/"}),
    Raw(HTML, 502),
    Raw(b'{"error": "project id disabled"}', 400),
    Raw(b"", 204),
    Raw(b"null"),
    Raw(b"[]"),
    Raw(b"[" * 200_000),
    Raw(b'{"jsonrpc": "2.0", "id": 1, "result": ' + b"9" * 10_000 + b"}"),
    Raw(b"\xff\xfe\x00"),
    Raw(b"not gzip", headers={"content-encoding": "gzip"}),
    Raw(b"{}", headers={"content-encoding": "br"}),
    Result("0x1", {"id": 10**9}),
    Result("0x1", {"id": None}),
    Result("0x1", {"error": {"code": -1, "message": "both"}}),
    Result(None),
    Result({"absurd": True}),
    Result([]),
    Result(-1),
    Result("0x-1"),
    Result("0xzz"),
]


def named(case: Any) -> str:
    return str(getattr(case, "text", None) or getattr(case, "body", getattr(case, "value", "")))[
        :40
    ]


@contextlib.contextmanager
def pool_of(*nodes: StubNode, **options: Any) -> Iterator[RpcPool]:
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(node).url for node in nodes]
        pool = RpcPool(urls, CHAIN, **{"timeout": 1.0, "max_wait": 0.5, **options})
        stack.callback(pool.close)
        yield pool


def ask(pool: RpcPool, method: str) -> object:
    return {
        "eth_getBalance": lambda: pool.balance(SOMEBODY),
        "eth_call": lambda: pool.eth_call(SOMEBODY, b"", "latest"),
        "eth_getLogs": lambda: pool.logs([SOMEBODY], 1, 1),
        "eth_estimateGas": lambda: pool.estimate_gas(SOMEBODY, SOMEBODY, b""),
    }[method]()


@pytest.mark.parametrize("refusal", REFUSALS, ids=named)
def test_one_refuses__the_other_answers_and_the_one_is_named(refusal: Any) -> None:
    asked = "eth_call"
    bad = StubNode(lambda method, params: refusal if method == asked else None)
    with pool_of(bad, StubNode()) as pool:
        pool.head()
        for _ in range(3):
            assert pool.eth_call(SOMEBODY, b"", "latest") == bytes(32)
        assert bad.count(asked) <= 2, "it stands behind the other one by now"
        assert pool.endpoints[0].trouble
        assert not pool.endpoints[1].trouble


@pytest.mark.parametrize("method", ["eth_getBalance", "eth_getLogs", "eth_estimateGas"])
@pytest.mark.parametrize("refusal", REFUSALS[:20:3], ids=named)
def test_one_refuses__any_method(method: str, refusal: Any) -> None:
    bad = StubNode(lambda asked, params: refusal if asked == method else None)
    with pool_of(bad, StubNode()) as pool:
        ask(pool, method)
        assert bad.count(method) == 1


@pytest.mark.parametrize(
    "refusal", [REFUSALS[0], REFUSALS[3], REFUSALS[7], Raw(HTML, 403)], ids=named
)
def test_one_refuses_everything__the_other_serves(refusal: Any) -> None:
    bad = StubNode(lambda method, params: refusal)
    with pool_of(bad, StubNode()) as pool:
        head = pool.head()
        assert pool.agreed_block(head.number - 2).number == 98
        assert pool.balance(SOMEBODY, head) == 10**18
        assert pool.fees().base == 10**9
        assert pool.endpoints[0].failures > 0 and pool.endpoints[0].trouble
        assert len(bad.calls) <= 3


def test_all_refuse__error_says_so_in_one_line_without_the_key() -> None:
    secret = "a-key-of-some-length"
    bad = StubNode(
        lambda m, p: (
            Refusal(-32601, f"no\nsuch method for {secret}") if m != "eth_chainId" else None
        )
    )
    with bad:
        pool = RpcPool([f"{bad.url}/v3/{secret}"], CHAIN, 1.0)
        with pytest.raises(RpcError) as caught:
            pool.balance(SOMEBODY)
        pool.close()
    assert "no such method" in str(caught.value) and secret not in str(caught.value)
    assert secret not in repr(pool.endpoints)


def test_logs_not_in_the_plan__asked_once_and_reads_go_on() -> None:
    """A plan without logs must not cost the endpoint its reads."""
    refusal = Refusal(-32005, "daily request count exceeded, request rate limited")
    bad = StubNode(lambda method, params: refusal if method == "eth_getLogs" else None)
    with pool_of(bad, StubNode()) as pool:
        for _ in range(10):
            pool.head()
            pool.logs([SOMEBODY], 1, 50)
        assert bad.count("eth_getLogs") <= 2
        assert bad.count("eth_getBlockByNumber") == 10
        assert "refuses eth_getLogs" in pool.endpoints[0].trouble


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (Refusal(3, "execution reverted: jobs: late", data="0x"), "no reason given"),
        (Refusal(-32000, "execution reverted: jobs: late"), "jobs: late"),
        (
            Refusal(
                -32015,
                "VM execution error.",
                data="Reverted 0x08c379a0" + encode(["string"], ["jobs: late"]).hex(),
            ),
            "jobs: late",
        ),
        (Refusal(-32603, "VM Exception while processing transaction: revert x"), "x"),
        (Refusal(-32000, "invalid opcode: INVALID"), "invalid opcode: INVALID"),
        (Refusal(-32000, "out of gas"), "out of gas"),
        (Refusal(3, "execution reverted: too many requests"), "too many requests"),
    ],
)
def test_revert__is_an_answer(refusal: Refusal, reason: str, status: int) -> None:
    said = Refusal(refusal.code, refusal.text, status, refusal.data)
    first, second = (StubNode(lambda m, p: said if m == "eth_call" else None) for _ in range(2))
    with pool_of(first, second) as pool:
        with pytest.raises(Reverted) as caught:
            pool.eth_call(SOMEBODY, b"", "latest")
        assert caught.value.reason == reason
        assert first.count("eth_call") + second.count("eth_call") == 1
        assert not any(endpoint.failures or endpoint.trouble for endpoint in pool.endpoints)


def test_block_unknown_at_one_url__the_same_url_is_asked_again() -> None:
    """A load balancer: one of the nodes behind it has not got the block yet."""
    answers = iter([Refusal(-32000, "header not found")])
    node = StubNode(lambda m, p: next(answers, None) if m == "eth_getBalance" else None)
    with pool_of(node) as pool:
        assert pool.balance(SOMEBODY, pool.head()) == 10**18
        node.rule = lambda m, p: (
            Refusal(-32000, "block beyond current head") if m == "eth_getBalance" else None
        )
        with pytest.raises(BlockUnknown):
            pool.balance(SOMEBODY, pool.head())
        assert node.count("eth_getBalance") == 5


# ---------------------------------------------------------------------- whole requests


@pytest.mark.parametrize(
    "said",
    [
        Raw(every=0.05),
        Raw(every=0.05, drip_headers=True),
        bomb(64),
        Raw(b" " * (9 << 20)),
        Raw(b'"' + b"x" * (9 << 20) + b'"', 403),
    ],
    ids=["drips its body", "drips its headers", "gzip bomb", "huge", "huge error"],
)
def test_answer_without_end__left_at_the_deadline_or_the_cap(said: Raw) -> None:
    bad = StubNode(lambda method, params: said if method == "eth_getBalance" else None)
    with pool_of(bad, StubNode(), timeout=0.6) as pool:
        begin = time.monotonic()
        assert pool.balance(SOMEBODY) == 10**18
        assert time.monotonic() - begin < 3
        assert pool.endpoints[0].failures == 1 and pool.endpoints[0].trouble


def test_packed_answer__unpacked() -> None:
    import gzip
    import json

    def rule(method: str, params: list[Any]) -> Raw | None:
        if method != "eth_getBalance":
            return None
        number = sum(1 for _ in node.calls)
        body = json.dumps({"jsonrpc": "2.0", "id": number, "result": "0x5"}).encode()
        return Raw(gzip.compress(body), headers={"content-encoding": "gzip"})

    node = StubNode(rule)
    with pool_of(node) as pool:
        assert pool.balance(SOMEBODY) == 5


@pytest.mark.parametrize("when", ["soon", "date"])
def test_retry_after__is_kept_to(when: str) -> None:
    from email.utils import formatdate

    value = "20" if when == "soon" else formatdate(time.time() + 20, usegmt=True)
    bad = StubNode(
        lambda m, p: Raw(b"", 429, {"retry-after": value}) if m == "eth_getBalance" else None
    )
    with pool_of(bad, StubNode()) as pool:
        pool.balance(SOMEBODY)
        assert pool.endpoints[0].not_before - time.monotonic() > 15


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9", "refuses connections"),
        ("http://no-such-host.invalid", "does not resolve"),
        ("http://127.0.0.1:9999999", "invalid URL"),
        ("http://", "invalid URL"),
    ],
)
def test_unreachable__the_cause_is_said(url: str, words: str) -> None:
    pool = RpcPool([url], CHAIN, 1.0, max_wait=0, rounds=1)
    with pytest.raises(Transport, match=words):
        pool.call("eth_chainId")
    pool.close()


def test_wrong_chain_midway__is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    moved = StubNode()
    with pool_of(moved, StubNode(), clock=lambda: now[0]) as pool:
        assert pool.head().number == 100
        moved.rule = lambda m, p: Result("0x1") if m == "eth_chainId" else None
        now[0] += 61
        pool.head()
        assert pool.endpoints[0].wrong_chain
        before = len(moved.calls)
        pool.balance(SOMEBODY)
        assert len(moved.calls) == before


# ---------------------------------------------------------------------- null, missing, old nodes


@pytest.mark.parametrize("change", [{"baseFeePerGas": None}, {"gasLimit": None}, {"gasLimit": "x"}])
def test_block__null_in_optional_fields__is_missing(change: dict[str, object]) -> None:
    node = StubNode()
    plain = node.healthy
    node.rule = lambda m, p: (
        Result({**plain(m, p), **change})  # type: ignore[dict-item]  # a block
        if m == "eth_getBlockByNumber"
        else None
    )
    with pool_of(node) as pool:
        assert pool.head().number == 100


@pytest.mark.parametrize("missing", ["number", "hash", "timestamp"])
def test_block__without_what_is_needed__next_endpoint(missing: str) -> None:
    node = StubNode()
    plain = node.healthy
    node.rule = lambda m, p: (
        Result({**plain(m, p), missing: None})  # type: ignore[dict-item]  # a block
        if m == "eth_getBlockByNumber"
        else None
    )
    with pool_of(node, StubNode()) as pool:
        assert pool.block(5).number == 5
        assert "eth_getBlockByNumber" in pool.endpoints[0].trouble


RECEIPT = {
    "transactionHash": "0x" + "22" * 32,
    "blockHash": "0x" + "33" * 32,
    "blockNumber": "0x5",
    "status": "0x1",
    "gasUsed": "0x5208",
    "effectiveGasPrice": "0x7",
    "logs": [{"address": "nonsense"}],
}


def test_receipt__what_nobody_needs_is_not_read() -> None:
    change: dict[str, object] = {}
    node = StubNode(
        lambda m, p: Result({**RECEIPT, **change}) if m == "eth_getTransactionReceipt" else None
    )
    with pool_of(node) as pool:
        changes: list[dict[str, object]] = [{}, {"logs": None}, {"gasUsed": "absurd"}]
        for change in [*changes, {"effectiveGasPrice": None}]:  # noqa: B007 - the node reads it
            receipt = pool.receipt(bytes(32))
            assert receipt is not None and receipt.status == 1
        change = {"blockHash": None}
        assert pool.receipt(bytes(32)) is None
        change = {}
        with pytest.raises(ChainError):
            pool.receipt(bytes(32), logs=True)


def test_receipt__malformed_at_one__asked_of_the_other() -> None:
    def node(change: dict[str, object]) -> StubNode:
        return StubNode(
            lambda m, p: Result({**RECEIPT, **change}) if m == "eth_getTransactionReceipt" else None
        )

    with pool_of(node({"status": {}}), node({"logs": []})) as pool:
        receipt = pool.receipt(bytes(32))
        assert receipt is not None and receipt.gas_price == 7


def by_number_only(method: str, params: list[Any]) -> Refusal | None:
    if any(isinstance(one, dict) and "blockHash" in one for one in params[1:]):
        return Refusal(-32602, "invalid argument 1: json: cannot unmarshal object into string")
    return None


def test_no_eip_1898__read_by_number_and_checked() -> None:
    node = StubNode(by_number_only)
    with pool_of(node) as pool:
        head = pool.head()
        assert pool.balance(SOMEBODY, head) == 10**18
        assert pool.nonce(SOMEBODY, head) == 0
        assert pool.eth_call(SOMEBODY, b"", head) == bytes(32)
        objects = [p for _, p in node.calls if len(p) > 1 and isinstance(p[1], dict)]
        assert len(objects) == 1, "that it cannot is remembered"
        assert pool.endpoints[0].failures == 0
        # The same number on another branch is another block.
        plain = node.healthy

        def other_branch(method: str, params: list[Any]) -> Any:
            if method == "eth_getBlockByNumber":
                return Result({**plain(method, params), "hash": "0x" + "ee" * 32})  # type: ignore[dict-item]  # a block
            return by_number_only(method, params)

        node.rule = other_branch
        with pytest.raises(BlockUnknown):
            pool.balance(SOMEBODY, head)


# ---------------------------------------------------------------------- logs

LIMITS = [
    Refusal(-32602, "block range exceeds 1000"),
    Refusal(-32600, "eth_getLogs is limited to 1,000 blocks", 400),
    Refusal(-32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' span too big"),
    Refusal(-32000, "exceed maximum block count 1000"),
    Refusal(-32701, "Please specify an address in your request"),
    Refusal(35, "ranges over 1000 blocks are not supported on freetier", 400),
    Refusal(-32000, "One of the blocks specified in filter (fromBlock, toBlock) cannot be found."),
    Refusal(-32000, "logs matched by query exceeds limit of 10000"),
    Refusal(-32005, "query returned more than 10000 results"),
    Refusal(-32016, "so many eggs"),
    Raw(HTML, 413),
    Raw(HTML, 503),
    Raw(b" " * (17 << 20)),
    Result(None),
]


@pytest.mark.parametrize("limit", LIMITS, ids=named)
def test_logs__range_limited_in_any_words__halved(limit: Any) -> None:
    def rule(method: str, params: list[Any]) -> Any:
        if method != "eth_getLogs":
            return None
        first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        if last - first >= 100:
            return limit
        wanted = range(first, last + 1)
        return Result([entry(number) for number in (3, 333, 777) if number in wanted])

    node = StubNode(rule, head=1000)
    with pool_of(node, max_wait=5.0) as pool:
        pool.head()
        found = pool.logs([SOMEBODY], 0, 999)
        assert [one.block_number for one in found] == [3, 333, 777]
        before = node.count("eth_getLogs")
        pool.logs([SOMEBODY], 0, 999)
        assert node.count("eth_getLogs") - before <= 24, "what it admits is remembered"


def entry(number: int) -> dict[str, object]:
    return {
        "address": SOMEBODY,
        "topics": ["0x" + "44" * 32],
        "data": "0x",
        "blockNumber": hex(number),
        "blockHash": "0x" + "55" * 32,
        "transactionHash": "0x" + "66" * 32,
        "logIndex": "0x0",
    }


def test_logs__never_answered__a_bounded_number_of_requests() -> None:
    node = StubNode(lambda m, p: Refusal(-32000, "no") if m == "eth_getLogs" else None)
    with pool_of(node) as pool:
        pool.head()
        with pytest.raises(RpcError):
            pool.logs([SOMEBODY], 0, 99)
        assert node.count("eth_getLogs") <= 12


def test_logs__of_blocks_that_were_not_asked_for__not_taken() -> None:
    liar = StubNode(lambda m, p: Result([entry(70)]) if m == "eth_getLogs" else None)
    with pool_of(liar, StubNode()) as pool:
        assert pool.logs([SOMEBODY], 1, 5) == []


# ---------------------------------------------------------------------- transactions


@pytest.mark.parametrize(
    ("text", "fault", "least"),
    [
        ("already known", TxFault.KNOWN, None),
        ("ALREADY_EXISTS: already known", TxFault.KNOWN, None),
        ("AlreadyKnown", TxFault.KNOWN, None),
        ("Transaction with the same hash was already imported.", TxFault.KNOWN, None),
        ("known transaction: 0x1f", TxFault.KNOWN, None),
        ("tx already in mempool", TxFault.KNOWN, None),
        ("nonce too low", TxFault.NONCE, None),
        ("nonce too low: next nonce 5, tx nonce 4", TxFault.NONCE, None),
        ("Transaction nonce is too low. Try incrementing the nonce.", TxFault.NONCE, None),
        ("OldNonce, Current nonce: 5, nonce of rejected tx: 4", TxFault.NONCE, None),
        ("invalid nonce; got 4, expected 5: invalid sequence", TxFault.NONCE, None),
        ("nonce too high", TxFault.NONCE, None),
        ("replacement transaction underpriced", TxFault.REPLACEMENT, None),
        ("could not replace existing tx", TxFault.REPLACEMENT, None),
        ("ReplacementNotAllowed", TxFault.REPLACEMENT, None),
        (
            "Transaction gas price is too low. There is another with same nonce in the queue.",
            TxFault.REPLACEMENT,
            None,
        ),
        (
            "transaction underpriced: gas tip cap 0, minimum needed 1000000000",
            TxFault.UNDERPRICED,
            10**9,
        ),
        ("transaction underpriced", TxFault.UNDERPRICED, None),
        ("gas price below minimum: 25 gwei required", TxFault.UNDERPRICED, None),
        ("FeeTooLow, MaxFeePerGas too low", TxFault.UNDERPRICED, None),
        ("insufficient fees; got: 5 required: 7000", TxFault.UNDERPRICED, 7000),
        ("priority fee per gas 1 is below the minimum of 25 gwei", TxFault.UNDERPRICED, 25 * 10**9),
        (
            "max fee per gas less than block base fee: maxFeePerGas: 1 baseFee: 2",
            TxFault.FEE_CAP,
            None,
        ),
        ("insufficient funds for gas * price + value", TxFault.FUNDS, None),
        ("Upfront cost exceeds account balance", TxFault.FUNDS, None),
        ("sender doesn't have enough funds to send tx", TxFault.FUNDS, None),
        ("gas required exceeds allowance (21000)", TxFault.FUNDS, None),
        ("intrinsic gas too low: gas 0, minimum needed 21000", TxFault.GAS, 21000),
        ("exceeds block gas limit", TxFault.GAS, None),
        ("transaction gas limit too high (cap: 16777216, tx: 30000000)", TxFault.GAS, None),
        ("transaction type not supported", TxFault.TYPE, None),
        ("rlp: expected input list for types.LegacyTx", TxFault.TYPE, None),
        ("txpool is full", None, None),
        ("Unauthorized", None, None),
    ],
)
def test_broadcast__what_a_node_has_against_it(
    text: str, fault: TxFault | None, least: int | None
) -> None:
    node = StubNode(lambda m, p: Refusal(-32000, text) if m == "eth_sendRawTransaction" else None)
    with pool_of(node) as pool:
        answer = pool.broadcast(b"\x02")
    if fault is TxFault.KNOWN:
        assert answer.accepted
        return
    assert not answer.accepted
    (error,) = answer.errors
    assert (error.fault if isinstance(error, TxRefused) else None) == fault
    if least is not None:
        assert isinstance(error, TxRefused) and error.least == least
    if fault is None:
        assert pool.endpoints[0].trouble


@pytest.mark.parametrize("said", ["0x0", hex(20_999), hex(100_000_000), hex(2**70), "0x", None, 5])
def test_estimate__that_cannot_be__asked_of_the_next(said: object) -> None:
    liar = StubNode(lambda m, p: Result(said) if m == "eth_estimateGas" else None)
    with pool_of(liar, StubNode()) as pool:
        assert pool.estimate_gas(SOMEBODY, SOMEBODY, b"", most=30_000_000) == 100_000
        assert pool.endpoints[0].trouble


def test_find_sent__a_transaction_in_a_block_is_shown() -> None:
    sent = {"from": SOMEBODY.upper().replace("0X", "0x"), "nonce": "0x2", "hash": "0x" + "77" * 32}

    def rule(method: str, params: list[Any]) -> Any:
        if method == "eth_getTransactionCount":
            return Result("0x3" if int(params[1], 16) >= 60 else "0x2")
        if method == "eth_getBlockByNumber" and params[1]:
            found = node.healthy(method, params)
            assert isinstance(found, dict)
            return Result({**found, "transactions": [sent] if params[0] == hex(60) else []})
        return None

    node = StubNode(rule)
    with pool_of(node) as pool:
        found = pool.find_sent(SOMEBODY, 2, 0, 100)
        assert found is not None
        assert (found.block_number, found.tx_hash) == (60, b"\x77" * 32)
        sent["hash"] = None  # type: ignore[assignment]  # a node that leaves it out
        assert pool.find_sent(SOMEBODY, 2, 0, 100) is None
