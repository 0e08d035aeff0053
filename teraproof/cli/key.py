# SPDX-License-Identifier: Apache-2.0
"""Accounts as key files: make one, show whose it is. Ape has accounts of its own."""

from __future__ import annotations

from pathlib import Path

import click

from teraproof.cli.frame import Needs, Result, Session, command

_FILE = click.Path(dir_okay=False, path_type=Path)
_keystore = click.argument("keystore", type=_FILE)


@click.group("key")
def cli() -> None:
    """Make a key file, show its address."""


@command(cli, Needs.NOTHING)
@_keystore
@click.option("--password-file", type=_FILE, required=True, help="Made if it is not there.")
def new(session: Session, keystore: Path, password_file: Path) -> Result:
    """Make an account: a new key in KEYSTORE, encrypted with the password in a file.

    Back up both files: whoever loses them loses what the account holds.
    """
    from teraproof import keyfiles

    address = keyfiles.create(keystore, password_file)
    session.ui.step(f"{address} in {keystore}, its password in {password_file}")
    session.ui.note("back up both files, apart from each other; send gas money to the address")
    return {"address": address, "keystore": str(keystore)}


@command(cli, Needs.NOTHING)
@_keystore
@click.option("--password-file", type=_FILE, required=True, help="With its password.")
def address(session: Session, keystore: Path, password_file: Path) -> Result:
    """Show the address of KEYSTORE, and that the password opens it."""
    from teraproof import keyfiles

    found = str(keyfiles.load(keystore, password_file).address)
    session.ui.line(found)
    return {"address": found}
