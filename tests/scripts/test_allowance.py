# SPDX-License-Identifier: Apache-2.0
"""Allowances of tokens that change only an allowance of nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from teraproof.contracts.erc20 import APPROVE
from teraproof.contracts.token import TokenContract
from teraproof.market import funds
from teraproof.rpc.errors import Reverted


@pytest.mark.parametrize(
    ("allowed", "picky", "sent"),
    [(0, True, [3]), (2, True, [0, 3]), (2, False, [3])],
    ids=["nothing left", "leftover, picky token", "leftover"],
)
def test_allow__leftover__taken_back_where_the_token_wants_it(
    monkeypatch: pytest.MonkeyPatch, allowed: int, picky: bool, sent: list[int]
) -> None:
    approved: list[int] = []

    def transact(sender: Any, ui: Any, label: str, contract: Any, data: bytes) -> str:
        approved.append(APPROVE.decode_input(data)[1])
        return label

    def estimate(call: Any) -> int:
        if picky:
            raise Reverted("approve from non-zero to non-zero allowance")
        return 50_000

    monkeypatch.setattr(funds, "transact", transact)
    payment = TokenContract(Any, "0x" + "11" * 20)  # type: ignore[arg-type]
    market: Any = SimpleNamespace(payment=payment)
    sender: Any = SimpleNamespace(estimate=estimate)
    ui: Any = None
    assert len(funds._allow(market, sender, ui, "3 tUSD", allowed, 3, "0x" + "22" * 20)) == len(
        sent
    )
    assert approved == sent
