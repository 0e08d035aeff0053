# SPDX-License-Identifier: Apache-2.0
"""The sender on chains whose nodes quote absurd prices and estimates, want floors, or know no
EIP-1559: over real HTTP, with a clock of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from provider_agent.store import IntentKey, IntentState
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.sender import Sender
from teraproof.rpc.client import RpcPool
from tests.agent.stores import fresh_store
from tests.agent.stub_node import CHAIN, GWEI, Refusal, Result, StubNode, block

TARGET = "0x" + "22" * 20
OPERATOR = Account.from_key("0x" + "42" * 32)
START = 1_700_000_000


class Chain:
    """A node that mines what it accepts, and a sender that talks to it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.now, self.head = START, 100
        self.base: int | None = GWEI
        self.mined: list[bytes] = []
        self.offers: list[dict[str, Any]] = []
        self.said: dict[str, Any] = {}  # answers of its own by method
        self.node = StubNode(self._rule)
        self.node.__enter__()
        self.pool = RpcPool([self.node.url], CHAIN, 2.0, max_wait=0.2, wall_clock=lambda: self.now)
        self.store = fresh_store(folder / "agent.sqlite", clock=lambda: self.now)
        self.sender = Sender(
            self.pool,
            self.store,
            OperatorKey(OPERATOR),
            **{
                "max_fee": 200 * GWEI,
                "max_tip": 5 * GWEI,
                "confirmations": 0,
                "clock": lambda: self.now,
                **options,
            },
        )
        self.sender.start()

    def close(self) -> None:
        self.store.close()
        self.pool.close()
        self.node.__exit__()

    def refuse(self, made: dict[str, Any]) -> Refusal | None:
        """What the node has against a transaction; a test replaces it."""
        return None

    def _rule(self, method: str, params: list[Any]) -> Any:
        if method in self.said:
            said = self.said[method]
            return said() if callable(said) else said
        if method == "eth_getBlockByNumber":
            number = self.head if params[0] == "latest" else int(params[0], 16)
            found = block(number, self.base, self.now - (self.head - number))
            return Result({**found, "transactions": []} if number <= self.head else None)
        if method == "eth_getTransactionCount":
            return Result(hex(len(self.mined)))
        if method == "eth_gasPrice":
            return Result(hex(GWEI))
        if method == "eth_getTransactionReceipt":
            if bytes.fromhex(params[0][2:]) not in self.mined:
                return Result(None)
            here = block(self.head)
            return Result(
                {
                    "transactionHash": params[0],
                    "blockHash": here["hash"],
                    "blockNumber": here["number"],
                    "status": "0x1",
                }
            )
        if method == "eth_sendRawTransaction":
            return self._take(bytes.fromhex(params[0][2:]))
        return None

    def _take(self, raw: bytes) -> Any:
        if raw[0] == 2:
            made = dict(TypedTransaction.from_bytes(HexBytes(raw)).as_dict())
        else:
            import rlp  # type: ignore[import-untyped, unused-ignore]

            fields = rlp.decode(raw)
            number = int.from_bytes(fields[1], "big")
            made = {"type": 0, "gasPrice": number, "gas": int.from_bytes(fields[2], "big")}
        self.offers.append(made)
        refusal = self.refuse(made)
        if refusal is None:
            self.mined.append(bytes(keccak(raw)))
        return refusal or Result("0x" + keccak(raw).hex())

    def want(self, deadline: int | None = 86_400) -> IntentKey:
        key = IntentKey("jobs", "ab" * 32, "attest")
        end = None if deadline is None else START + deadline
        self.sender.submit(key, TARGET, b"", deadline=end)
        return key

    def run(self, minutes: int = 30) -> None:
        """Let time pass, block by block, until something is mined."""
        for _ in range(minutes):
            self.sender.tick()
            if self.mined:
                return
            self.pass_time(60)

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.head += max(1, seconds // 12)

    def state(self, key: IntentKey) -> IntentState:
        intent = self.store.intent(key)
        assert intent is not None
        return intent.state


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    made = Chain(tmp_path)
    with contextlib.closing(made):
        yield made


GETH = "transaction underpriced: gas tip cap {tip}, minimum needed {need}"


def floor(need: int, text: str = GETH) -> Any:
    """A node that wants a tip, and says so."""

    def refuse(made: dict[str, Any]) -> Refusal | None:
        tip = made.get("maxPriorityFeePerGas", made.get("gasPrice"))
        assert tip is not None
        return Refusal(-32000, text.format(tip=tip, need=need)) if tip < need else None

    return refuse


def test_quiet_chain__first_offer_has_the_nodes_own_tip(chain: Chain) -> None:
    """Fee history of empty blocks says 0; the node wants what it says itself."""
    chain.refuse = floor(GWEI)  # type: ignore[method-assign]  # the node's words
    chain.want()
    chain.sender.tick()
    assert len(chain.offers) == 1 and len(chain.mined) == 1
    assert chain.offers[0]["maxPriorityFeePerGas"] == GWEI


@pytest.mark.parametrize(
    "text",
    [
        GETH,
        "max priority fee per gas {tip} is below the minimum of {need} wei",
        "transaction underpriced",
        "FeeTooLow, EffectivePriorityFeePerGas too low {tip}",
    ],
)
def test_floor__learnt_from_the_refusal(chain: Chain, text: str) -> None:
    chain.said["eth_maxPriorityFeePerGas"] = Result("0x0")
    chain.refuse = floor(3 * GWEI, text)  # type: ignore[method-assign]  # the node's words
    chain.want()
    chain.run(60)
    assert chain.mined
    assert 3 * GWEI <= chain.offers[-1]["maxPriorityFeePerGas"] <= 5 * GWEI
    if "{need}" in text:
        assert len(chain.offers) == 2


def test_floor_above_the_cap__said_and_never_paid(chain: Chain) -> None:
    chain.refuse = floor(30 * GWEI)  # type: ignore[method-assign]  # the node's words
    chain.want()
    chain.run()
    assert not chain.mined
    assert max(offer["maxPriorityFeePerGas"] for offer in chain.offers) <= 5 * GWEI
    assert chain.sender.trouble
    chain.refuse = lambda made: None  # type: ignore[method-assign]  # it gives in
    chain.run()
    assert chain.mined


def test_absurd_tip__never_paid(chain: Chain) -> None:
    said = {"baseFeePerGas": [hex(GWEI)] * 6, "reward": [[hex(190 * GWEI)]] * 5}
    chain.said["eth_feeHistory"] = Result(said)
    chain.said["eth_maxPriorityFeePerGas"] = Result(hex(190 * GWEI))
    chain.want()
    chain.run()
    assert chain.offers[-1]["maxPriorityFeePerGas"] == 5 * GWEI


def test_chain_without_eip_1559__old_kind_of_transaction(chain: Chain) -> None:
    chain.base = None
    gone = Refusal(-32601, "the method does not exist/is not available")
    chain.said |= {"eth_feeHistory": gone, "eth_maxPriorityFeePerGas": gone}
    key = chain.want()
    chain.run()
    assert chain.offers[-1]["gasPrice"] == GWEI + GWEI // 8
    chain.pass_time(12)
    chain.sender.tick()
    assert chain.state(key) is IntentState.FINAL


def test_type_not_supported__old_kind_at_the_next_block(chain: Chain) -> None:
    chain.refuse = (  # type: ignore[method-assign]  # the node's words
        lambda made: (
            Refusal(-32000, "transaction type not supported") if "gasPrice" not in made else None
        )
    )
    chain.want()
    chain.run()
    assert chain.mined and "gasPrice" in chain.offers[-1]


@pytest.mark.parametrize("said", ["0x0", hex(100_000_000), hex(2**64), "0xzz", None, {}])
def test_absurd_estimate__the_transaction_goes_out_all_the_same(chain: Chain, said: object) -> None:
    chain.said["eth_estimateGas"] = Result(said)
    chain.want()
    chain.run()
    assert chain.mined
    assert 21_000 < chain.offers[-1]["gas"] <= 8_000_000


def test_gas_limit_refused__estimated_anew(chain: Chain) -> None:
    """One wrong estimate must not hold up the nonce."""
    said = iter([hex(22_000)])
    chain.said["eth_estimateGas"] = lambda: Result(next(said, hex(60_000)))
    chain.refuse = (  # type: ignore[method-assign]  # the node's words
        lambda made: Refusal(-32000, "intrinsic gas too low") if made["gas"] < 60_000 else None
    )
    chain.want()
    chain.run()
    assert [offer["gas"] for offer in chain.offers] == [27_500, 75_000]


def test_base_fee_five_times__replaced_at_todays_price(chain: Chain) -> None:
    chain.refuse = (  # type: ignore[method-assign]  # the node's words
        lambda made: (
            None
            if made["maxFeePerGas"] >= (chain.base or 0)
            else Refusal(-32000, "max fee per gas less than block base fee")
        )
    )
    chain.said["eth_sendRawTransaction"] = lambda: Result("0x" + "11" * 32)  # taken, not mined
    chain.want()
    chain.sender.tick()
    chain.base = 5 * GWEI
    chain.said.pop("eth_sendRawTransaction")
    chain.pass_time(90)
    chain.sender.tick()
    assert chain.mined and chain.offers[-1]["maxFeePerGas"] == 11 * GWEI


def test_no_money_for_the_cancel__no_dearer_one_each_block(chain: Chain) -> None:
    poor = Refusal(-32000, "insufficient funds for gas * price + value")
    chain.refuse = lambda made: poor  # type: ignore[method-assign]  # the node's words
    chain.want(deadline=30)
    for _ in range(60):
        chain.sender.tick()
        chain.pass_time(12)
    fees = {offer["maxFeePerGas"] for offer in chain.offers}
    assert max(fees) <= 2 * min(fees)
    assert "too little gas money" in chain.sender.trouble
    signed = chain.store.transactions_of(1)
    assert len(signed) <= 3
    chain.refuse = lambda made: None  # type: ignore[method-assign]  # money has come
    chain.run()
    assert chain.mined


def test_no_money__cheaper_when_the_price_falls(chain: Chain) -> None:
    chain.base = 50 * GWEI
    chain.refuse = (  # type: ignore[method-assign]  # the node's words
        lambda made: (
            Refusal(-32000, "insufficient funds") if made["maxFeePerGas"] > 10 * GWEI else None
        )
    )
    chain.want()
    chain.sender.tick()
    assert not chain.mined
    chain.base = GWEI
    chain.run()
    assert chain.mined and chain.offers[-1]["maxFeePerGas"] == 3 * GWEI


def test_one_call_that_no_node_estimates__does_not_hold_up_the_others(chain: Chain) -> None:
    bad = IntentKey("jobs", "cd" * 32, "accept")
    chain.sender.submit(bad, "0x" + "33" * 20, b"\1")
    good = chain.want()
    plain = chain.node.rule
    assert plain is not None

    def rule(method: str, params: list[Any]) -> Any:
        if method == "eth_estimateGas" and params[0]["to"] == "0x" + "33" * 20:
            return Refusal(-32000, "cannot fulfil")
        return plain(method, params)

    chain.node.rule = rule
    chain.run()
    assert chain.mined
    assert chain.state(bad) is IntentState.PLANNED
    assert chain.state(good) is not IntentState.PLANNED
