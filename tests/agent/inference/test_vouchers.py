# SPDX-License-Identifier: Apache-2.0
"""`provider-agent claim` and `vouchers`: a copy that claims, and a new operator that is warned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from provider_agent.app import database
from provider_agent.cli import main as cli
from provider_agent.core.pay import Pay
from provider_agent.modules.all import open_store
from provider_agent.modules.inference.claims import CLAIM_ALL
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.settings import load
from provider_agent.tx.keys import KeyLock
from teraproof.errors import LocalError
from teraproof.protocol import inference, vouchers
from teraproof.protocol.channels import channel_id
from teraproof.protocol.errors import Exit
from teraproof.protocol.vouchers import KeptVoucher
from teraproof.protocol.x402 import ChannelState
from tests.agent.inference.parts import (
    CHAIN,
    OPERATOR,
    PAYER,
    RECEIVER,
    a_config,
    receipt,
    voucher,
)

OTHER = "0x" + "44" * 20


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def failed(*arguments: str | Path, kind: Exit = Exit.INPUT) -> str:
    result = call(*arguments)
    assert result.exit_code == kind, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of an agent whose key is the operator of `parts`."""
    key = tmp_path / "operator.key"
    key.write_text(OPERATOR.key.hex())
    key.chmod(0o600)
    (tmp_path / "locks").mkdir()
    file = tmp_path / "provider.toml"
    file.write_text(
        f"""[chain]
rpc_urls = ["http://127.0.0.1:1"]
chain_id = {CHAIN}
staking = "{OTHER}"
jobs = "{OTHER}"

[operator]
private_key_file = "operator.key"

[agent]
data_dir = "data"
lock_dir = "locks"

[api]
public_url = "http://127.0.0.1:8700"

[inference.models.tiny]
upstream = "http://127.0.0.1:1/v1"
prompt_price = "1"
"""
    )
    return file


def fill(config: Path, channels: int = 3, **changed: Any) -> None:
    """A book with channels that owe 60 of a voucher of 100 each."""
    path = database(load(config, {}))
    path.parent.mkdir(exist_ok=True)
    store = open_store(path)
    book = ChannelBook(store)
    Pay(2, "USD").keep(store, "inference")
    for salt in range(channels):
        made = a_config(PAYER, salt, **changed)
        channel = channel_id(CHAIN, made)
        book.see(made, ChannelState(channel, 1_000, 0), 1)
        book.begin(voucher(channel, 100), 100, 10**9)
        book.end(receipt(channel, 1, 60, 60))
    store.close()


@pytest.fixture
def book(config: Path) -> Iterator[Callable[[], ChannelBook]]:
    """The book as it is now."""
    opened = []

    def found() -> ChannelBook:
        opened.append(open_store(database(load(config, {})), owner=False))
        return ChannelBook(opened[-1])

    yield found
    for store in opened:
        store.close()


# ---------------------------------------------------------------------- export and import


def test_export_and_import__the_book_comes_back_and_nothing_is_lowered(
    config: Path, tmp_path: Path, book: Callable[[], ChannelBook]
) -> None:
    fill(config)
    file = tmp_path / "vouchers.json"
    assert "vouchers of 3 channels" in call("vouchers", "export", "--config", config, file).output
    before = list(book().kept())
    for path in database(load(config, {})).parent.glob("agent.sqlite*"):
        path.unlink()
    said = call("vouchers", "import", "--config", config, file)
    assert said.exit_code == 0 and "3 of 3 vouchers were news" in said.output
    found = book()
    assert list(found.kept()) == before
    row = found.channel(before[0].voucher.channel)
    assert row is not None and (row.charged, row.voucher, row.number, row.balance) == (
        60,
        100,
        1,
        0,
    )
    again = call("vouchers", "import", "--config", config, file)
    assert "0 of 3 vouchers were news" in again.output


def test_import__of_an_older_file_lowers_nothing(
    config: Path, tmp_path: Path, book: Callable[[], ChannelBook]
) -> None:
    fill(config, channels=1)
    file = tmp_path / "vouchers.json"
    assert call("vouchers", "export", "--config", config, file).exit_code == 0
    channel = channel_id(CHAIN, a_config())
    store = open_store(database(load(config, {})))
    later = ChannelBook(store)
    later.begin(voucher(channel, 300), 100, 10**9)
    later.end(receipt(channel, 2, 90, 150))
    store.close()
    said = call("vouchers", "import", "--config", config, file)
    assert "0 of 1 vouchers were news" in said.output
    row = book().channel(channel)
    assert row is not None and (row.charged, row.voucher, row.number) == (150, 300, 2)


def kept(**changed: Any) -> KeptVoucher:
    made = a_config()
    channel = channel_id(CHAIN, made)
    return replace(KeptVoucher(made, voucher(channel, 100), receipt(channel, 1, 60, 60)), **changed)


CHANNEL, ELSEWHERE = channel_id(CHAIN, a_config()), channel_id(CHAIN, a_config(salt=9))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"voucher": voucher(CHANNEL, 100, OPERATOR)}, "the payer has not signed"),
        ({"voucher": voucher(ELSEWHERE, 100)}, "of another channel"),
        ({"voucher": voucher(CHANNEL, 59)}, "charges more than the voucher"),
        ({"receipt": receipt(ELSEWHERE, 1, 60, 60)}, "of another channel"),
        ({"config": a_config(receiver=OTHER)}, "of another channel"),
        (
            {
                "receipt": inference.SignedReceipt.make(
                    inference.receipt_domain(CHAIN), receipt(CHANNEL, 1, 90, 90).receipt, PAYER
                )
            },
            "another key than the operator's",
        ),
    ],
)
def test_import__a_voucher_that_does_not_hold__nothing_of_the_file_is_taken(
    config: Path, tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    good = kept()
    good.check(CHAIN)
    file = tmp_path / "vouchers.json"
    file.write_text(vouchers.write(CHAIN, [good, kept(**changed)]))
    line = failed("vouchers", "import", "--config", config, file)
    assert "its voucher 2" in line and why in line
    assert not database(load(config, {})).exists()


def test_import__of_less_than_the_chain_has_claimed__lowers_nothing_and_the_agent_starts(
    config: Path, tmp_path: Path, book: Callable[[], ChannelBook]
) -> None:
    """The channel is known from the chain alone: its row has no signature."""
    made = a_config(PAYER, 9)
    channel = channel_id(CHAIN, made)
    fill(config, channels=0)
    book().see(made, ChannelState(channel, 1_000, 500), 1)
    file = tmp_path / "vouchers.json"
    old = KeptVoucher(made, voucher(channel, 50), receipt(channel, 1, 50, 50))
    file.write_text(vouchers.write(CHAIN, [old]))
    said = call("vouchers", "import", "--config", config, file)
    assert said.exit_code == 0 and "0 of 1 vouchers were news" in said.output
    open_store(database(load(config, {}))).close()
    row = book().channel(channel)
    assert row is not None and (row.voucher, row.charged, row.signed) == (500, 500, None)


def test_export__after_more_was_claimed_than_is_known_here__is_a_file_that_holds(
    config: Path, tmp_path: Path, book: Callable[[], ChannelBook]
) -> None:
    """One signature that is not over its sum would make the whole file useless."""
    fill(config)
    first = next(book().kept())
    book().see(first.config, ChannelState(first.voucher.channel, 1_000, 500), 2)
    file = tmp_path / "vouchers.json"
    assert "vouchers of 2 channels" in call("vouchers", "export", "--config", config, file).output
    assert len(vouchers.read(file.read_bytes(), CHAIN)) == 2
    row = book().channel(first.voucher.channel)
    assert row is not None and (row.voucher, row.charged, row.signed) == (500, 500, None)


def test_export__is_for_its_owner_and_follows_no_link(config: Path, tmp_path: Path) -> None:
    fill(config)
    file, other = tmp_path / "vouchers.json", tmp_path / "other"
    other.write_text("mine")
    (tmp_path / ".vouchers.json.new").symlink_to(other)
    assert call("vouchers", "export", "--config", config, file).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600 and other.read_text() == "mine"
    assert not file.is_symlink()


def test_import__of_a_number_that_no_channel_comes_to__one_line(
    config: Path, tmp_path: Path
) -> None:
    made = a_config(PAYER, 9)
    channel = channel_id(CHAIN, made)
    kept = KeptVoucher(made, voucher(channel, 50), receipt(channel, 1 << 63, 50, 50))
    file = tmp_path / "vouchers.json"
    file.write_text(vouchers.write(CHAIN, [kept]))
    assert "voucher 1: the receipt has a number" in failed(
        "vouchers", "import", "--config", config, file
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[]", "not JSON"),
        ("{}", "not a file of vouchers"),
        (vouchers.write(CHAIN + 1, []), "it is of chain 31338, expected 31337"),
        (json.dumps({**json.loads(vouchers.write(CHAIN, [])), "version": 2}), "this version"),
        (json.dumps({**json.loads(vouchers.write(CHAIN, [])), "vouchers": {}}), "not a file"),
        (json.dumps({**json.loads(vouchers.write(CHAIN, [])), "vouchers": [1]}), "voucher 1"),
    ],
)
def test_import__of_something_else__one_line(
    config: Path, tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "vouchers.json"
    file.write_text(text)
    assert why in failed("vouchers", "import", "--config", config, file)
    with pytest.raises(LocalError):
        vouchers.read(text.encode(), CHAIN)


def test_import__while_the_agent_runs_or_without_a_file__one_line(
    config: Path, tmp_path: Path
) -> None:
    settings = load(config, {})
    with KeyLock(CHAIN, OPERATOR.address, settings.agent.lock_dir):
        line = failed("vouchers", "import", "--config", config, tmp_path / "x", kind=Exit.FAULT)
    assert "another agent on this machine" in line
    assert "cannot read" in failed("vouchers", "import", "--config", config, tmp_path / "x")


def test_export__before_the_first_run_or_to_nowhere__one_line(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "none" / "vouchers.json"
    assert "has not run yet" in failed("vouchers", "export", "--config", config, file)
    fill(config)
    assert "cannot write" in failed("vouchers", "export", "--config", config, file)


# ---------------------------------------------------------------------- claims, and a new operator


def test_claim_all__leaves_a_wish_when_something_is_owed(config: Path) -> None:
    assert "--all" in failed("claim", "--config", config)
    assert "has not run yet" in failed("claim", "--all", "--config", config)
    fill(config, channels=0)
    wish = load(config, {}).agent.data_dir / CLAIM_ALL
    assert "no channel owes anything" in call("claim", "--all", "--config", config).output
    assert not wish.exists()
    fill(config)
    said = call("claim", "--all", "--config", config)
    assert said.exit_code == 0 and "1.8 USD of 3 channels" in said.output
    assert wish.exists()


def test_consent__of_a_new_key_while_channels_of_the_old_one_owe__is_refused(config: Path) -> None:
    words = ("consent", "--config", config, "--owner", RECEIVER, "--nonce", "0")
    assert call(*words).exit_code == 0, "a first key has no channels"
    fill(config)
    assert call(*words).exit_code == 0, "they are its own channels"
    fill(config, channels=2, receiver_authorizer=OTHER)
    store = open_store(database(load(config, {})), owner=False)
    owing = [row for row in ChannelBook(store).channels() if row.unclaimed]
    store.close()
    assert len(owing) == 5
    line = failed(*words, kind=Exit.REFUSED)
    assert "2 channels of another operator owe 1.2 USD" in line
    assert "claim --all" in line and "claim-vouchers" in line
    assert call(*words, "--leave-unclaimed").exit_code == 0
