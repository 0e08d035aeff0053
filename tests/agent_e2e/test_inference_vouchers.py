# SPDX-License-Identifier: Apache-2.0
"""What was served reaches the provider although its operator or its database is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.app import DATABASE
from provider_agent.modules.inference.claims import CLAIM_ALL
from teraproof.protocol import vouchers
from teraproof.protocol.errors import Exit
from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.channel_rig import ChannelRig, Payer, channel_rig
from tests.agent_e2e.registries import save_registry
from tests.support.anvil import ROOT


@pytest.fixture
def rig(market: Deployment, tmp_path: Path) -> Iterator[ChannelRig]:
    """An agent that puts claims off for years."""
    with channel_rig(market, tmp_path / "agent", coin_price="1000", claim_hours=10**6) as made:
        made.cycle(2)
        yield made


def two_that_owe(rig: ChannelRig) -> list[Payer]:
    payers = [rig.payer().open(10 * USD) for _ in range(2)]
    for payer in payers:
        payer.serve(USD // 2)
        payer.serve(USD // 4, ceiling=USD)
    rig.cycle(3)
    assert rig.sent("claim") == 0
    return payers


def exported(rig: ChannelRig) -> bytes:
    return vouchers.write(rig.anvil.chain_id, rig.book.kept()).encode()


def owner_says(
    rig: ChannelRig, home: Path, account: LocalAccount, file: Path
) -> subprocess.CompletedProcess[str]:
    """`teraproof provider claim-vouchers`, by an account."""
    if not home.exists():
        save_registry(home, rig.deployment)
    key = home / f"{account.address}.key"
    key.write_text(account.key.hex())
    key.chmod(0o600)
    return subprocess.run(
        [
            sys.executable, "-m", "teraproof", "provider", "claim-vouchers", str(file),
            "--key-file", key.name, "--yes", "--json", "--rpc-url", rig.anvil.url,
            "--deployments", str(home),
        ],
        cwd=home, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip


def test_owner_wants_all_claimed__nothing_is_put_off_and_the_wish_ends(rig: ChannelRig) -> None:
    payers = two_that_owe(rig)
    wish = rig.folder / CLAIM_ALL
    wish.touch()
    rig.until(lambda: all(not payer.row.unclaimed for payer in payers), "claim")
    rig.until(lambda: not wish.exists(), "end of the wish")
    payers[0].serve(USD // 2)
    rig.cycle(4)
    assert rig.sent("claim") == 1, "what is served later waits again"


def test_owner_wants_all_claimed_while_models_are_served__each_channel_once(
    rig: ChannelRig,
) -> None:
    """A busy provider would claim at any price of gas for good."""
    payers = two_that_owe(rig)
    wish = rig.folder / CLAIM_ALL
    wish.touch()
    for _ in range(9):
        payers[0].serve(USD // 8)
        rig.cycle(1)
    assert not wish.exists() and rig.sent("claim") == 1
    assert all(payer.on_chain()[1] >= 3 * USD // 4 for payer in payers)


def test_what_is_below_its_gas__is_not_claimed_and_the_wish_ends(rig: ChannelRig) -> None:
    payer = rig.payer().open(10 * USD)
    payer.serve(1)
    wish = rig.folder / CLAIM_ALL
    wish.touch()
    rig.until(lambda: not wish.exists(), "end of the wish")
    assert (rig.sent("claim"), payer.row.unclaimed) == (0, 1)


def test_database_is_lost__vouchers_of_a_file_are_claimed(rig: ChannelRig) -> None:
    payers, data = two_that_owe(rig), None
    data = exported(rig)
    rig.stop()
    for path in rig.folder.glob(f"{DATABASE}*"):
        path.unlink()
    rig.start()
    assert rig.book.count() == 0
    kept = vouchers.read(data, rig.anvil.chain_id)
    assert [rig.book.adopt(one) for one in kept] == [True, True]
    assert [rig.book.adopt(one) for one in kept] == [False, False]
    (rig.folder / CLAIM_ALL).touch()
    rig.until(lambda: sum(payer.on_chain()[1] for payer in payers) == 3 * USD // 2, "claims")
    for payer in payers:
        rig.until(lambda row=payer: not row.row.unclaimed, "the book")
        assert payer.row.charged == payer.served
        payer.serve(USD // 4)  # its channel goes on where it stood


def test_file_is_older_than_the_last_claim__counts_from_what_was_claimed(rig: ChannelRig) -> None:
    """Otherwise what was claimed since would be served a second time."""
    (payer, _), old = two_that_owe(rig), b""
    old = exported(rig)
    payer.serve(USD)
    (rig.folder / CLAIM_ALL).touch()
    rig.until(lambda: not payer.row.unclaimed, "claim")
    rig.stop()
    for path in rig.folder.glob(f"{DATABASE}*"):
        path.unlink()
    rig.start()
    for one in vouchers.read(old, rig.anvil.chain_id):
        rig.book.adopt(one)
    assert payer.row.charged < payer.served
    rig.until(lambda: payer.row.total_claimed == payer.served, "look")
    assert payer.row.charged == payer.served
    payer.serve(USD // 4)


def test_operator_has_changed__who_is_paid_claims_with_the_file(
    rig: ChannelRig, tmp_path: Path
) -> None:
    payers = two_that_owe(rig)
    bad = rig.payer(receiver=rig.stranger.address).open(10 * USD)
    bad.serve(USD // 2)
    file, home = tmp_path / "vouchers.json", tmp_path / "home"
    file.write_bytes(exported(rig))
    rig.stop()
    old, rig.operator = rig.operator, Account.create()
    rig.anvil.set_balance(rig.operator.address, 10**20)
    rig.folder = tmp_path / "new"
    rig.start()
    rig.stop()
    nobody = owner_says(rig, home, rig.tenant, file)
    assert json.loads(nobody.stdout)["channels"] == 0, nobody.stdout + nobody.stderr
    said = owner_says(rig, home, rig.owner, file)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert (found["claimed"], found["channels"]) == (str(3 * USD // 2), 2)
    assert found["left"] == [f"0x{bad.channel.hex()}"]
    assert rig.balance(rig.owner.address) == 3 * USD // 2 == rig.received()[1]
    assert [payer.on_chain()[1] for payer in payers] == [payer.served for payer in payers]
    # A second time nothing is paid twice. The old operator's key can claim the rest.
    again = owner_says(rig, home, rig.owner, file)
    assert json.loads(again.stdout)["claimed"] == "0"
    by_key = owner_says(rig, home, old, file)
    assert json.loads(by_key.stdout)["channels"] == 1, by_key.stderr
    assert rig.balance(rig.stranger.address) == USD // 2
    rig.start()


def test_file_that_was_changed__claims_nothing(rig: ChannelRig, tmp_path: Path) -> None:
    two_that_owe(rig)
    said = json.loads(exported(rig))
    said["vouchers"][1]["voucher"]["maxClaimableAmount"] = str(10 * USD)
    file = tmp_path / "vouchers.json"
    file.write_text(json.dumps(said))
    found = owner_says(rig, tmp_path / "home", rig.owner, file)
    assert found.returncode == Exit.INPUT
    assert "its voucher 2: the payer has not signed the voucher" in found.stdout + found.stderr
    assert rig.received() == (0, 0)
