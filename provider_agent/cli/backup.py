# SPDX-License-Identifier: Apache-2.0
"""`provider-agent backup` and `restore`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from provider_agent.cli.command import AgentCommand, settings_option
from provider_agent.core.settings import Settings
from provider_agent.modules.all import kept_by, open_store
from provider_agent.settings import load
from provider_agent.store import backup as backups
from provider_agent.tx.keys import KeyLock
from teraproof.amounts import show_date
from teraproof.errors import LocalError, of_file
from teraproof.protocol.errors import Code

_folder = click.argument("folder", metavar="DIRECTORY", type=click.Path(path_type=Path))


@click.command(cls=AgentCommand)
@settings_option
@_folder
def backup(config: Path, folder: Path) -> None:
    """Copy databases, what was signed, settings and the key into a new directory.

    The agent may run meanwhile. The password of the key is not copied, nor a bare key: keep them in
    another place.
    """
    settings = load(config)
    others = [config]
    keystore = settings.operator.keystore
    if keystore is not None:
        others.append(keystore)
    made = backups.make(folder, settings.agent.data_dir, others, kept_by())
    click.echo(f"{folder}: {', '.join(made.files)}")
    secret = settings.operator.password_file if keystore else settings.operator.private_key_file
    if secret is not None:
        click.echo(f"not in it: {secret}; keep a copy of that in another place")


@click.command(cls=AgentCommand)
@settings_option
@_folder
def restore(config: Path, folder: Path) -> None:
    """Put a backup's databases, settings and key in place.

    The agent must not run. Its next start takes nonces, runs and jobs from the chain and the disk.
    """
    found = backups.read(folder)
    copied = _settings_from(found, config)
    try:
        settings = load(config)
        if found.chain and int(found.chain) != settings.chain.chain_id:
            raise LocalError(
                f"{folder} is of chain {found.chain}, {config} of {settings.chain.chain_id}; "
                "name the backup of this agent",
                Code.DATABASE_OTHER,
            )
        copied += _key_from(found, settings)
        with KeyLock(settings.chain.chain_id, found.operator, settings.agent.lock_dir):
            backups.restore(found, settings.agent.data_dir, open_store, kept_by())
    except LocalError:
        for file in copied:
            file.unlink()  # nothing half done
        raise
    click.echo(f"{settings.agent.data_dir}: restored as of {show_date(found.made)}")
    for file in copied:
        click.echo(f"{file}: restored")
    if not found.holds_all:
        click.echo("what was signed for jobs is not in it: it is of an earlier version")
    secret = settings.operator.password_file
    if secret is not None and not secret.exists():
        click.echo(f"missing: {secret}; put it back before you start the agent")


def _settings_from(found: backups.Backup, config: Path) -> list[Path]:
    """Copy the settings file where there is none."""
    if config.exists() or config.name not in found.files:
        return []
    return [_copy(found.folder / config.name, config)]


def _key_from(found: backups.Backup, settings: Settings) -> list[Path]:
    """Copy the encrypted key where there is none."""
    keystore = settings.operator.keystore
    if keystore is None or keystore.exists() or keystore.name not in found.files:
        return []
    return [_copy(found.folder / keystore.name, keystore)]


def _copy(source: Path, target: Path) -> Path:
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(source, "rb") as read, open(handle, "wb") as written:
            shutil.copyfileobj(read, written)
    except OSError as error:
        raise of_file(error, target, "cannot write") from None
    return target
