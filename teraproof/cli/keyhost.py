# SPDX-License-Identifier: Apache-2.0
"""The commands with an RPC URL and a key file: what `teraproof` runs, without Ape."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from teraproof.cli.frame import Needs, OneLine, Session
from teraproof.cli.told import Told
from teraproof.errors import WrongInput

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from teraproof.cli.ui import ConsoleUi
    from teraproof.market.chain import Chain
    from teraproof.market.signers import Signer

PROGRAM = "teraproof"
_CONFIRMATIONS = 2  # on a chain that other people use
_FILE = click.Path(dir_okay=False, path_type=Path)


def _option(name: str, help: str, **more: Any) -> click.Option:
    variable = "TERAPROOF_" + name.strip("-").replace("-", "_").upper()
    return click.Option([name], envvar=variable, show_envvar=True, help=help, **more)


_CHAIN = (_option("--rpc-url", "RPC URL of a node of the chain.", metavar="URL"),)
_ACCOUNT = (
    _option("--keystore", "Encrypted key of the account (Ethereum keystore).", type=_FILE),
    _option("--password-file", "Its password; asked for at a terminal without.", type=_FILE),
    _option("--key-file", "Private key of the account instead: 64 hex digits.", type=_FILE),
)


class _Command(click.Command):
    """Every error is one line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options."""
        with OneLine(as_json="--json" in args):
            return list(super().parse_args(ctx, args))


class KeyHost:
    """See the module."""

    deployments = Path("deployments")

    def options(self, needs: Needs) -> Sequence[click.Parameter]:
        """RPC URL, and key files where an account may be named."""
        if needs is Needs.NOTHING:
            return ()
        return _CHAIN if needs is Needs.CHAIN else (*_CHAIN, *_ACCOUNT)

    def command(self, needs: Needs) -> type[click.Command]:
        """A plain command."""
        return _Command

    def open(self, needs: Needs, chosen: Mapping[str, Any], ui: ConsoleUi) -> Session:
        """A session on the chain behind --rpc-url."""
        folder = chosen.get("deployments") or self.deployments
        if folder != self.deployments:
            from teraproof.market.registry import require_path

            require_path(folder)
        # Read before a node is asked, whose faults would hide those of the files.
        signer = self._account(chosen, needs is Needs.ACCOUNT, ui)

        def account(chain: Chain, required: bool) -> Signer | None:
            return self._account(chosen, True, ui) if required and signer is None else signer

        return Session(
            ui,
            folder,
            lambda: self._connect(chosen.get("rpc_url")),
            account,
            program=PROGRAM,
        )

    def told(self, error: BaseException) -> Told | None:
        """Nothing that only this host knows."""
        return None

    def _connect(self, url: str | None) -> Chain:
        from teraproof.market.chain import LOCAL_CHAIN_IDS, chain_at
        from teraproof.names import http_url
        from teraproof.rpc.probe import chain_id

        if not url:
            raise WrongInput("pass --rpc-url URL, or export TERAPROOF_RPC_URL")
        number = chain_id(http_url(url, "--rpc-url"))
        confirmations = 1 if number in LOCAL_CHAIN_IDS else _CONFIRMATIONS
        return chain_at(url, number, f"chain {number}", confirmations)

    def _account(self, chosen: Mapping[str, Any], required: bool, ui: ConsoleUi) -> Signer | None:
        keystore, key_file = chosen.get("keystore"), chosen.get("key_file")
        if keystore is None and key_file is None:
            if required:
                raise WrongInput("pass --keystore FILE with --password-file FILE, or --key-file")
            return None
        if keystore is not None and key_file is not None:
            raise WrongInput("pass --keystore or --key-file, not both")
        from teraproof import keyfiles
        from teraproof.market.signers import KeySigner, KeystoreSigner

        if keystore is None:
            return KeySigner(keyfiles.load(private_key_file=key_file), str(key_file))
        password_file = chosen.get("password_file")
        if password_file is None and not sys.stdin.isatty():
            raise WrongInput("--keystore needs --password-file where there is no terminal")

        def decrypt() -> LocalAccount:
            typed = None if password_file else ui.secret(f"password of {keystore}")
            return keyfiles.load(keystore, password_file, password=typed)

        address = keyfiles.address_of(keystore)
        if address is None:
            return KeySigner(decrypt(), str(keystore))
        return KeystoreSigner(address, str(keystore), decrypt)
