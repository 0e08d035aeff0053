# SPDX-License-Identifier: Apache-2.0
"""The programs in docs/inference.md do what the page says, with nothing but addresses changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from teraproof.protocol import x402
from teraproof.protocol.inference import RECEIPT_HEADER
from tests.agent_e2e.chain import USD
from tests.agent_e2e.inference_world import MODEL, Buyer, InferenceWorld, timely_world

PAGE = Path(__file__).parents[2] / "docs" / "inference.md"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[InferenceWorld]:
    """On a chain whose time is that of the machine, as these programs believe."""
    with timely_world(tmp_path) as made:
        yield made


def program(word: str) -> str:
    """The page's example with this word in it."""
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (example,) = (one for one in found if word in one)
    return str(example)


def test_payer__pays_also_when_it_is_started_again(world: InferenceWorld, tmp_path: Path) -> None:
    account = Account.create()
    world.deployment.transact(world.payment.call(world.tenant, "mint", account.address, USD))
    text = program("x402Client()")
    for old, new in (
        ("0xKEY", account.key.to_0x_hex()),
        ("https://YOUR-RPC", world.anvil.url),
        ("eip155:84532", x402.network(world.anvil.chain_id)),
        ("https://models.example", world.paid_url),
        ("tiny-1b", MODEL),
    ):
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "payer.py"
    file.write_text(text)
    direct = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(file)],
            env=direct,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2_000:]
        assert set(done.stdout.split()) == {"word"}
    assert len(world.server.asked) == 2


def test_receipt__shows_its_signer(world: InferenceWorld) -> None:
    buyer = Buyer(world)
    assert buyer.ask()
    answer = buyer.post(buyer.payment(buyer.voucher(buyer.charged + buyer.ceiling)))
    assert answer is not None
    names: dict[str, Any] = {}
    exec(program("def signer_of"), names)  # the page's own program
    found = names["signer_of"](answer.headers[RECEIPT_HEADER], world.anvil.chain_id)
    assert found == world.operator.address
    assert names["signer_of"](answer.headers[RECEIPT_HEADER], 1) != found
