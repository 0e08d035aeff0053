# SPDX-License-Identifier: Apache-2.0
"""One endpoint's "no" is not the pool's: only what is about the call itself is an answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eth_abi.abi import encode

from teraproof.rpc.client import RpcPool
from teraproof.rpc.endpoint import Endpoint, Stall
from teraproof.rpc.errors import (
    BlockUnknown,
    ChainError,
    Reverted,
    RpcError,
    Transport,
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
    ways: dict[str, Callable[[], object]] = {
        "eth_getBalance": lambda: pool.balance(SOMEBODY),
        "eth_call": lambda: pool.eth_call(SOMEBODY, b"", "latest"),
        "eth_getLogs": lambda: pool.logs([SOMEBODY], 1, 1),
        "eth_estimateGas": lambda: pool.estimate_gas(SOMEBODY, SOMEBODY, b""),
    }
    return ways[method]()


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
        now[0] += 181  # it is asked every three minutes
        pool.head()
        assert pool.endpoints[0].wrong_chain
        before = len(moved.calls)
        pool.balance(SOMEBODY)
        assert len(moved.calls) == before


def time_has_passed(endpoint: Endpoint) -> None:
    """Its pauses are over."""
    endpoint.not_before = 0.0
    for method in list(endpoint.slow):
        endpoint.slow[method] = Stall(0.0, 0.0)


def test_one_method_drips__the_others_are_served_and_cycles_go_on() -> None:
    """That an endpoint answers something else does not make the slow method quick."""
    waited: list[bool] = []

    def observe(endpoint: str, method: str, outcome: str, seconds: float) -> None:
        if outcome == "failed":
            waited.append(threading.current_thread() is threading.main_thread())

    def rule(method: str, params: list[Any]) -> Raw | None:
        return Raw(every=0.05) if method == "eth_getBlockByNumber" else None

    with StubNode(rule) as bad, StubNode() as good:
        pool = RpcPool([bad.url, good.url], CHAIN, timeout=0.4, max_wait=0.2, observer=observe)
        for _ in range(8):
            pool.endpoints[0].not_before = 0.0
            assert pool.head().number == 100
            pool.endpoints[0].not_before = 0.0
            assert pool.balance(SOMEBODY) == 10**18
        pool.close()
    assert waited.count(True) == 1


def test_drips_again_and_again__only_the_first_time_costs_a_cycle() -> None:
    """An endpoint that took its time and failed is tried with the others, not before them."""
    waited: list[tuple[str, bool]] = []

    def observe(endpoint: str, method: str, outcome: str, seconds: float) -> None:
        here = threading.current_thread() is threading.main_thread()
        waited.append((f"{endpoint[:4]} {outcome}", here))

    with StubNode(lambda method, params: Raw(every=0.05)) as bad, StubNode() as good:
        pool = RpcPool([bad.url, good.url], CHAIN, timeout=0.4, max_wait=0.2, observer=observe)
        for _ in range(6):
            time_has_passed(pool.endpoints[0])
            assert pool.head().number == 100
        time_has_passed(pool.endpoints[0])
        assert pool.balance("0x" + "11" * 20) == 10**18
        pool.close()
    assert waited.count(("rpc1 failed", True)) == 1


def test_begins_to_drip_after_it_was_in_use__one_wait_whatever_is_asked_next() -> None:
    """A failure makes its chain doubtful: to ask for that in line would be a second wait."""
    ill = [False]
    waited: list[bool] = []

    def observe(endpoint: str, method: str, outcome: str, seconds: float) -> None:
        if outcome == "failed":
            waited.append(threading.current_thread() is threading.main_thread())

    def rule(method: str, params: list[Any]) -> Raw | None:
        return Raw(every=0.05) if ill[0] else None

    with StubNode(rule) as bad, StubNode() as good:
        pool = RpcPool([bad.url, good.url], CHAIN, timeout=0.4, max_wait=0.2, observer=observe)
        assert pool.head().number == 100
        ill[0] = True
        for _ in range(3):
            pool.endpoints[0].not_before = 0.0
            assert pool.balance(SOMEBODY) == 10**18
            pool.endpoints[0].not_before = 0.0
            assert pool.head().number == 100
            pool.endpoints[0].not_before = 0.0
            assert pool.code(SOMEBODY) == b""
        pool.close()
    assert waited.count(True) == 1


def test_slow_endpoint_is_well_again__used_again() -> None:
    ill = [True]
    with (
        StubNode(lambda method, params: Raw(every=0.05) if ill[0] else None) as bad,
        StubNode() as good,
    ):
        pool = RpcPool([bad.url, good.url], CHAIN, timeout=0.4, max_wait=0.2)
        pool.head()
        ill[0] = False
        end = time.monotonic() + 20
        while pool.endpoints[0].slow and time.monotonic() < end:
            time_has_passed(pool.endpoints[0])
            pool.head()
            time.sleep(0.02)
        asked = bad.count("eth_getBalance")
        good.rule = lambda method, params: Refusal(-32000, "no")
        assert pool.balance("0x" + "11" * 20) == 10**18
        assert bad.count("eth_getBalance") == asked + 1
        pool.close()


def test_slow_endpoint_is_the_only_one_left__asked_in_line() -> None:
    ill = [True]
    with StubNode(lambda method, params: Raw(every=0.05) if ill[0] else None) as only:
        pool = RpcPool([only.url], CHAIN, timeout=0.4, max_wait=0.2)
        with contextlib.suppress(ChainError):
            pool.head()
        ill[0] = False
        pool.endpoints[0].not_before = 0.0
        assert pool.head().number == 100
        pool.close()
