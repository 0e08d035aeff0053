# SPDX-License-Identifier: Apache-2.0
"""The frame of every script: Ape's network option, one account, one line for every error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx
from ape.cli import ConnectedProviderCommand
from ape.exceptions import (
    ApeException,
    NetworkMismatchError,
    ProviderError,
    ProviderNotConnectedError,
)
from ape.logging import logger
from requests.exceptions import RequestException
from web3.exceptions import Web3Exception

from scripts.market import choice
from scripts.market.artifacts import ROOT
from scripts.market.errors import WrongInput
from teraproof.cli.ui import ConsoleUi
from teraproof.errors import LocalError, TeraproofError
from teraproof.protocol.errors import Code, Exit
from teraproof.protocol.terms import address as checked_address

F = TypeVar("F", bound=Callable[..., Any])

_STOPPED = "stopped; run the same command again to go on"


class MarketCommand(ConnectedProviderCommand):
    """A command on a network: what goes wrong is one line on stderr, and an exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options; the network is looked up here."""
        own_tools_first()
        with OneLine():
            return list(super().parse_args(ctx, args))

    def invoke(self, ctx: click.Context) -> Any:
        """Connect and run."""
        with OneLine():
            # What Ape tells of its own doings is noise between the lines of a script.
            logger.set_level("WARNING")
            if ctx.params.get("network") is not None:
                choice.check(ctx.params["network"])
            return super().invoke(ctx)


def own_tools_first() -> None:
    """Let Ape find the anvil and vyper that were installed beside this Python."""
    here = str(Path(sys.executable).parent)
    known = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if here not in known:
        os.environ["PATH"] = os.pathsep.join([here, *known])


class OneLine:
    """Turns expected errors into `click.ClickException`; a bug keeps its traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, click.ClickException | click.exceptions.Exit):
            return
        # Ape answers Ctrl-C with an exit of its own until `connect` takes the signal back.
        interrupted = isinstance(error, SystemExit) and error.code == Exit.INTERRUPTED
        told = _told(KeyboardInterrupt() if interrupted else error)
        if told is not None:
            raise _Failure(*told) from None


class _Failure(click.ClickException):
    def __init__(self, line: str, code: Code) -> None:
        super().__init__(line)
        self.exit_code = int(code.exit)

    def show(self, file: Any = None) -> None:
        """Print the line; Ape's own logger would add a level and a colour."""
        click.echo(f"error: {self.message}", err=True, file=file)


def _told(error: BaseException) -> tuple[str, Code] | None:
    """The line and the code of an expected error; None for a bug."""
    if isinstance(error, TeraproofError):
        return str(error), error.code
    if isinstance(error, KeyboardInterrupt):
        return _STOPPED, Code.INTERRUPTED
    if isinstance(error, click.Abort):
        return _STOPPED, Code.DECLINED
    if isinstance(error, NetworkMismatchError):
        return f"wrong network: {_flat(error)}", Code.INPUT_INVALID
    # Ape says by the bare class that it finds no node.
    nobody = type(error) is ProviderError
    if nobody or isinstance(error, ProviderNotConnectedError | ConnectionError | RequestException):
        line = f"no RPC endpoint answers ({_flat(error)}); check --network and its RPC URL"
        return line, Code.CHAIN_UNAVAILABLE
    if isinstance(error, httpx.HTTPError):
        return f"a server does not answer ({_flat(error)}); try again", Code.AGENT_UNREACHABLE
    if isinstance(error, ApeException | Web3Exception):
        return _flat(error), Code.FAILED
    return None


def _flat(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__


class _Address(click.ParamType):
    name = "address"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """An EIP-55 address."""
        try:
            return checked_address(param.opts[0] if param is not None else "address", value)
        except LocalError as error:
            raise WrongInput(str(error)) from None


ADDRESS = _Address()


def account_option(function: F) -> F:
    """`--account NAME`."""
    return click.option(
        "--account", "alias", metavar="NAME", help="Ape account (ape accounts list), or TEST::N."
    )(function)


def common_options(function: F) -> F:
    """`--yes` and `--deployments`."""
    function = click.option("--yes", is_flag=True, help="Do not ask before money moves.")(function)
    return click.option(
        "--deployments",
        type=click.Path(file_okay=False, path_type=Path),
        default=ROOT / "deployments",
        show_default="deployments",
        help="Directory of the deployment registries.",
    )(function)


def console(yes: bool) -> ConsoleUi:
    """The terminal."""
    return ConsoleUi(yes)


provider_option = click.option(
    "--provider",
    "owner",
    type=ADDRESS,
    help="Owner address of the provider; default: the account itself.",
)
