# SPDX-License-Identifier: Apache-2.0
"""What nodes answer, and leave out: blocks, receipts, logs, and words about transactions."""

from __future__ import annotations

from typing import Any

import pytest

from teraproof.rpc.errors import (
    BlockUnknown,
    ChainError,
    Reverted,
    RpcError,
    TxFault,
    TxRefused,
)
from tests.agent.rpc.test_refusals import SOMEBODY, named, pool_of
from tests.agent.stub_node import HTML, Raw, Refusal, Result, StubNode, block

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
        changes: list[dict[str, object]] = [
            {}, {"logs": None}, {"gasUsed": "absurd"}, {"effectiveGasPrice": None},
        ]  # fmt: skip
        for change in changes:  # noqa: B007 - the node reads it
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
    Refusal(-32016, "too many eggs"),
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


REVERT = Refusal(3, "execution reverted", data="0x")


@pytest.mark.parametrize(("liars", "sent"), [(1, True), (2, False), (3, False)])
def test_estimate__reverts_at_few__sent_by_the_word_of_the_others(liars: int, sent: bool) -> None:
    """What is owed goes out although one node says that it would fail."""
    nodes = [
        StubNode(lambda m, p: REVERT if m == "eth_estimateGas" else None) for _ in range(liars)
    ]
    with pool_of(*nodes, *(StubNode() for _ in range(3 - liars))) as pool:
        if sent:
            assert pool.estimate_gas(SOMEBODY, SOMEBODY, b"", most=30_000_000) == 100_000
        else:
            with pytest.raises(Reverted):
                pool.estimate_gas(SOMEBODY, SOMEBODY, b"", most=30_000_000)


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        ((7_000_000,), 7_000_000),  # alone its word is all there is
        ((7_000_000, 90_000), 90_000),
        ((90_000, 7_000_000), 90_000),
        ((7_000_000, 90_000, 95_000), 95_000),
        ((7_000_000, 6_000_000, 95_000), 6_000_000),  # two say so: data is dear there
        ((7_000_000, None), 7_000_000),  # the other does not answer
        ((7_000_000, 5), 7_000_000),  # the other says what cannot be
    ],
)
def test_estimate__more_than_is_likely__needs_a_second_word(
    told: tuple[int | None, ...], counts: int
) -> None:
    """A limit keeps the sender's money back: one bad node of several cannot set it."""

    def node(gas: int | None) -> StubNode:
        says: Any = Refusal(-32000, "no") if gas is None else Result(hex(gas))
        return StubNode(lambda m, p: says if m == "eth_estimateGas" else None)

    with pool_of(*(node(gas) for gas in told)) as pool:
        found = pool.estimate_gas(SOMEBODY, SOMEBODY, b"", likely=200_000, most=8_000_000)
        assert found == counts


def test_estimate__likely__one_endpoint_is_asked() -> None:
    nodes = [StubNode(), StubNode()]
    with pool_of(*nodes) as pool:
        pool.estimate_gas(SOMEBODY, SOMEBODY, b"", likely=100_000, most=8_000_000)
    assert sum(node.count("eth_estimateGas") for node in nodes) == 1


@pytest.mark.parametrize("ahead", [0, 36_000])
def test_time__of_one_endpoint_alone__ends_no_deadline(ahead: int) -> None:
    when = 1_700_000_000

    def node(number: int, time: int) -> StubNode:
        return StubNode(
            lambda m, p: Result(block(number, when=time)) if m == "eth_getBlockByNumber" else None
        )

    with pool_of(node(101, when + ahead), node(100, when), node(100, when)) as pool:
        head = pool.head()
        assert head.timestamp == when + ahead
        assert pool.sure_time(head) == when
    with pool_of(node(101, when + ahead)) as alone:
        assert alone.sure_time(alone.head()) == when + ahead


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
