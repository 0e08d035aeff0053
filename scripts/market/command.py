# SPDX-License-Identifier: Apache-2.0
"""The commands with Ape's networks and accounts.

Ape takes seconds to load. What a person typed is read before that, so nothing heavy is imported
here; `ape run` reads all scripts, so they import nothing heavy, either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from ape.cli import ConnectedProviderCommand

from teraproof.cli.frame import Needs, OneLine, Session, bind
from teraproof.cli.told import STOPPED, Told
from teraproof.protocol.errors import Code, Exit

if TYPE_CHECKING:
    from teraproof.cli.ui import ConsoleUi
    from teraproof.market.chain import Chain
    from teraproof.market.signers import Signer

PROGRAM = "ape run"
ROOT = Path(__file__).resolve().parents[2]
#: Options that Ape adds and reads itself, which loads its libraries.
_OF_APE = (["--network"], ["--provider-settings"], ["--verbosity", "-v"])

ACCOUNT = click.Option(
    ["--account", "alias"], metavar="NAME", help="Ape account (ape accounts list), or TEST::N."
)


class MarketCommand(ConnectedProviderCommand):
    """A command on a network: what goes wrong is one line on stderr, and an exit code."""

    #: Whether it may run on a chain that Ape starts and ends itself, without being told to.
    throw_away = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options: the command's own first, then the network, which is looked up here."""
        own_tools_first()
        as_json = "--json" in args
        with OneLine(HOST, as_json):
            if not {"--help", "-h"} & set(args):
                self._read_own(ctx, args)
                if "ape.managers" not in sys.modules:
                    click.echo("starting Ape ...", err=True)
            return list(super().parse_args(ctx, args))

    def _read_own(self, ctx: click.Context, args: list[str]) -> None:
        """Raise what is wrong with the command's own options and arguments."""
        of_ape = [click.Option(names) for names in _OF_APE]
        names = {option.name for option in of_ape}
        own = [param for param in self.params if param.name not in names]
        probe = click.Command(self.name, params=[*own, *of_ape])
        with probe.make_context(ctx.info_name, list(args), parent=ctx.parent):
            pass

    def invoke(self, ctx: click.Context) -> Any:
        """Connect and run."""
        with OneLine(HOST, bool(ctx.params.get("as_json"))):
            from ape.logging import logger

            from scripts.market import choice

            # What Ape tells of its own doings is noise between the lines of a script.
            logger.set_level("WARNING")
            network = ctx.params.get("network")
            if network is not None:
                named = (
                    ctx.get_parameter_source("network") is not click.core.ParameterSource.DEFAULT
                )
                choice.check(network, named=named or self.throw_away)
            return super().invoke(ctx)


class LocalCommand(MarketCommand):
    """One that is meant for a chain of its own."""

    throw_away = True


class ApeHost:
    """Runs the market's commands with Ape's networks and accounts."""

    deployments = ROOT / "deployments"

    def options(self, needs: Needs) -> Sequence[click.Parameter]:
        """`--account`; Ape adds `--network`."""
        return (ACCOUNT,) if needs in (Needs.ACCOUNT, Needs.EITHER) else ()

    def command(self, needs: Needs) -> type[click.Command]:
        """A command on a network."""
        return click.Command if needs is Needs.NOTHING else MarketCommand

    def open(self, needs: Needs, chosen: Mapping[str, Any], ui: ConsoleUi) -> Session:
        """A session on the chain that Ape is connected to."""
        from scripts.market import accounts
        from scripts.market.network import connect

        provider, alias = chosen["provider"], chosen.get("alias")

        def account(chain: Chain, required: bool) -> Signer | None:
            if alias is None and not required and needs is not Needs.ACCOUNT:
                return None
            return accounts.load(alias, chain, provider, ui.pause)

        return Session(
            ui,
            chosen.get("deployments") or self.deployments,
            lambda: connect(provider),
            account,
            program=PROGRAM,
        )

    def told(self, error: BaseException) -> Told | None:
        """Ape's own errors."""
        # Ape answers Ctrl-C with an exit of its own until `connect` takes the signal back.
        if isinstance(error, SystemExit) and error.code == Exit.INTERRUPTED:
            return STOPPED, Code.INTERRUPTED
        import httpx
        from ape.exceptions import (
            ApeException,
            NetworkMismatchError,
            ProviderError,
            ProviderNotConnectedError,
        )
        from requests.exceptions import RequestException
        from web3.exceptions import Web3Exception

        if isinstance(error, NetworkMismatchError):
            return f"wrong network: {_flat(error)}", Code.INPUT_INVALID
        # Ape says by the bare class that it finds no node.
        nobody = type(error) is ProviderError
        away = ProviderNotConnectedError | ConnectionError | RequestException
        if nobody or isinstance(error, away):
            line = f"no RPC endpoint answers ({_flat(error)}); check --network and its RPC URL"
            return line, Code.CHAIN_UNAVAILABLE
        if isinstance(error, httpx.HTTPError):
            return f"a server does not answer ({_flat(error)}); try again", Code.AGENT_UNREACHABLE
        if isinstance(error, ApeException | Web3Exception):
            return _flat(error), Code.FAILED
        return None


HOST = ApeHost()


def on_ape(group: click.Group) -> click.Group:
    """The commands of a group, with Ape's networks and accounts."""
    return bind(group, HOST)


def own_tools_first() -> None:
    """Let Ape find the anvil and vyper that were installed with this Python."""
    here = str(Path(sys.executable).parent)
    known = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if here not in known:
        os.environ["PATH"] = os.pathsep.join([here, *known])


def _flat(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
