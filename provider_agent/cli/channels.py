# SPDX-License-Identifier: Apache-2.0
"""`provider-agent claim` and `vouchers`: what payers of models have signed."""

from __future__ import annotations

import os
from pathlib import Path

import click

from provider_agent.app import database
from provider_agent.cli.command import AgentCommand, settings_option
from provider_agent.cli.second import refuse_second
from provider_agent.core.pay import Pay
from provider_agent.core.settings import Settings
from provider_agent.errors import SettingsError
from provider_agent.modules.all import open_store
from provider_agent.modules.inference.claim_book import ClaimBook
from provider_agent.modules.inference.claims import CLAIM_ALL
from provider_agent.modules.inference.module import InferenceModule
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.settings import load
from teraproof.errors import LocalError, of_file
from teraproof.protocol import vouchers as files
from teraproof.protocol.errors import Code

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


def _existing(settings: Settings) -> Path:
    path = database(settings)
    if not path.exists():
        raise SettingsError(f"{path} is not there; the agent has not run yet")
    return path


@click.command(cls=AgentCommand)
@click.option("--all", "everything", is_flag=True, help="Of all channels, without waiting.")
@settings_option
def claim(everything: bool, config: Path) -> None:
    """Claim what channels owe, as far as it is worth its gas. Do it before the operator changes.

    The agent does it with its next look at the chain, also when it is started later.
    """
    settings = load(config)
    if not everything:
        raise LocalError("say --all: an agent claims by itself what is due", Code.INPUT_INVALID)
    store = open_store(_existing(settings), owner=False)
    try:
        pay, (owed, owing) = Pay.kept(store, InferenceModule.name), ClaimBook(store).owed()
    finally:
        store.close()
    if pay is None or not owing:
        click.echo("no channel owes anything")
        return
    (settings.agent.data_dir / CLAIM_ALL).touch()
    click.echo(
        f"the agent claims {pay.show(owed)} of {owing} channels with its next look at the chain, "
        "as far as it is worth its gas; status shows what is left"
    )


def refuse_unclaimed(settings: Settings, operator: str) -> None:
    """LocalError when the agent's channels owe something that this operator's key cannot claim."""
    path = database(settings)
    if not path.exists():
        return
    store = open_store(path, owner=False)
    try:
        pay, (owed, owing) = (
            Pay.kept(store, InferenceModule.name),
            ClaimBook(store).of_others(operator),
        )
    finally:
        store.close()
    if pay is not None and owing:
        raise LocalError(
            f"{owing} channels of another operator owe {pay.show(owed)}, which {operator} cannot "
            "claim. Run provider-agent claim --all with the old key first, or provider-agent "
            "vouchers export and teraproof provider claim-vouchers; --leave-unclaimed goes on",
            Code.DECLINED,
        )


@click.group()
def vouchers() -> None:
    """Keep a copy of what payers of models have signed: export, import."""


@vouchers.command("export", cls=AgentCommand)
@settings_option
@_file
def export_(config: Path, file: Path) -> None:
    """Write the newest voucher of each channel into FILE, with the receipt of what was served.

    The agent may run meanwhile. Without its database the file is enough to claim.
    """
    settings = load(config)
    store = open_store(_existing(settings), owner=False)
    try:
        kept = list(ChannelBook(store).kept())
    finally:
        store.close()
    text = files.write(settings.chain.chain_id, kept)
    made = file.with_name(f".{file.name}.new")
    try:
        # Nobody else reads it, and a link in its place leads nowhere.
        made.unlink(missing_ok=True)
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        made.replace(file)
    except OSError as error:
        raise of_file(error, file, "cannot write") from None
    click.echo(f"{file}: vouchers of {len(kept)} channels")


@vouchers.command("import", cls=AgentCommand)
@settings_option
@_file
def import_(config: Path, file: Path) -> None:
    """Take over vouchers from FILE, as far as they are newer than those that are here.

    The agent must not run. Each voucher is checked; it is all of the file or nothing.
    """
    settings = load(config)
    refuse_second(settings)
    try:
        with open(file, "rb") as opened:
            data = opened.read(files.MOST_BYTES)
    except OSError as error:
        raise of_file(error, file, "cannot read") from None
    kept = files.read(data, settings.chain.chain_id)
    settings.agent.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = open_store(database(settings))
    try:
        book = ChannelBook(store)
        with book.transaction():
            new = sum(book.adopt(one) for one in kept)
    finally:
        store.close()
    click.echo(f"{new} of {len(kept)} vouchers were news; the agent claims them when it runs")
