# SPDX-License-Identifier: Apache-2.0
"""The frame of every command, whoever runs it: `teraproof`, or Ape.

A command is written once, as a function of a `Session` and its own options. A `Host` adds the
options that say which chain and which account, and opens the session. What goes wrong is one line
on stderr and an exit code; with --json the result, or the error, is one document on stdout.

This module imports nothing heavy: `teraproof --help` must answer at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from teraproof.cli.told import Told, expected, told_of
from teraproof.errors import TeraproofError, WrongInput
from teraproof.protocol.errors import Code

if TYPE_CHECKING:
    from teraproof.cli.ui import ConsoleUi
    from teraproof.market.chain import Chain
    from teraproof.market.market import Market
    from teraproof.market.sending import Sender
    from teraproof.market.signers import Signer
    from teraproof.storage.reach import Network

_RECURSION = 1_000  # as Python begins
Result = Mapping[str, Any] | None


class Needs(Enum):
    """What a command works with."""

    NOTHING = "nothing"
    CHAIN = "chain"
    EITHER = "either"
    """The chain, and an account if one is named."""
    ACCOUNT = "account"


class Host(Protocol):
    """Who runs the commands: where chain and account come from."""

    #: Where the files that say where the contracts are lie by default.
    deployments: Path

    def options(self, needs: Needs) -> Sequence[click.Parameter]:
        """What it adds to a command's options."""
        ...

    def command(self, needs: Needs) -> type[click.Command]:
        """The class of its commands."""
        ...

    def open(self, needs: Needs, chosen: Mapping[str, Any], ui: ConsoleUi) -> Session:
        """A session by the values of its options."""
        ...

    def told(self, error: BaseException) -> Told | None:
        """The line and code of an error that only this host knows; None for a bug."""
        ...


class Session:
    """The chain, the market and the account of a command, each opened when it is first needed.

    `account` loads the account that was named; its second argument says whether there must be one.
    """

    def __init__(
        self,
        ui: ConsoleUi,
        deployments: Path,
        connect: Callable[[], Chain],
        account: Callable[[Chain, bool], Signer | None],
        *,
        program: str,
    ) -> None:
        self.ui, self.deployments = ui, deployments
        #: What people type before `job`, for lines that name another command.
        self.program = program
        self.as_json = ui.quiet
        #: Networks that are not public where agents may be, and hosts and ports that were named.
        self.networks: tuple[Network, ...] = ()
        self.places: tuple[tuple[str, int], ...] = ()
        self._connect, self._account = connect, account
        self._chain: Chain | None = None
        self._market: Market | None = None
        self._signer: Signer | None = None
        self._sender: Sender | None = None
        self._held = ExitStack()

    @property
    def chain(self) -> Chain:
        """The chain. Raises when no endpoint answers."""
        if self._chain is None:
            self.ui.doing("waiting for the RPC endpoint")
            self._chain = self._connect()
        return self._chain

    @property
    def market(self) -> Market:
        """The deployed market."""
        if self._market is None:
            from teraproof.market.market import open_market, strangers_reach
            from teraproof.market.registry import require_path

            require_path(self.deployments)  # before the network, whose faults would hide it
            chain = self.chain
            self.ui.doing("reading the market")
            reach = strangers_reach(chain, self.networks).naming(self.places)
            self._market = open_market(self.deployments, chain, keep_sessions=True, reach=reach)
        return self._market

    @property
    def account(self) -> str | None:
        """The address of the account, if one is named."""
        signer = self._load()
        return None if signer is None else signer.address

    @property
    def signer(self) -> Signer:
        """The account. WrongInput when none is named."""
        signer = self._load()
        if signer is None:
            signer = self._signer = self._account(self.chain, True)
        if signer is None:
            raise WrongInput("name the account that pays and signs; see --help")
        return signer

    @property
    def sender(self) -> Sender:
        """Sends the account's transactions; no other command does so at the same time."""
        if self._sender is None:
            from teraproof.market.sending import Sender, hold

            self.signer.load()
            self._held.enter_context(hold(self.chain, self.signer.address))
            self._sender = Sender(self.chain, self.signer)
        return self._sender

    @property
    def lasting_sender(self) -> Sender:
        """Like `sender`, for a command that lasts: others may send between its transactions."""
        if self._sender is None:
            from teraproof.market.sending import LastingSender

            self.signer.load()
            self._sender = LastingSender(self.chain, self.signer)
        return self._sender

    def sent(self) -> list[dict[str, Any]]:
        """The transactions so far, as JSON values."""
        return [] if self._sender is None else [one.to_json() for one in self._sender.sent]

    def close(self) -> None:
        """Let go of what is held, and of the connections."""
        self._held.close()
        if self._chain is not None:
            self._chain.pool.close()

    def _load(self) -> Signer | None:
        if self._signer is None:
            self._signer = self._account(self.chain, False)
            _limit_recursion()
        return self._signer


class Command(click.Command):
    """A command before a host has it: its callback takes a session, then its own options."""

    needs = Needs.ACCOUNT


def command(
    group: click.Group, needs: Needs, name: str | None = None
) -> Callable[[Callable[..., Result]], Command]:
    """Add a command to a group."""

    def add(function: Callable[..., Result]) -> Command:
        made = click.command(name, cls=Command)(function)
        made.needs = needs
        group.add_command(made)
        return made

    return add


def common(host: Host, needs: Needs) -> list[click.Option]:
    """`--deployments`, `--private-networks` and `--yes`. The last one is not shown where nothing is
    sent.
    """
    return [
        click.Option(
            ["--private-networks"],
            type=_Networks(),
            envvar="TERAPROOF_PRIVATE_NETWORKS",
            show_envvar=True,
            metavar="NETWORKS",
            default=(),
            show_default=False,
            help="Networks that are not public where agents may be all the same, such as "
            "127.0.0.0/8, with a comma between two.",
        ),
        click.Option(
            ["--deployments"],
            type=click.Path(path_type=Path),
            envvar="TERAPROOF_DEPLOYMENTS",
            show_envvar=True,
            default=host.deployments,
            show_default="deployments",
            help="Directory of the files that say where the contracts are, or one such file.",
        ),
        click.Option(
            ["--yes"],
            is_flag=True,
            hidden=needs is not Needs.ACCOUNT,
            help="Do not ask before money moves.",
        ),
    ]


JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document.")


class Group(click.Group):
    """A command that it does not have is one line, too. `default` is run where none is named."""

    default: str | None = None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the line; options without a command are those of the default one."""
        if self.default is not None and (not args or args[0].startswith("-")):
            args = args if args[:1] == ["--help"] else [self.default, *args]
        return list(super().parse_args(ctx, args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named first."""
        with OneLine(as_json="--json" in args):
            return super().resolve_command(ctx, args)


def bind(group: click.Group, host: Host) -> click.Group:
    """The group's commands as this host runs them."""
    bound = Group(group.name, help=group.help)
    bound.default = group.default if isinstance(group, Group) else None
    for name, made in group.commands.items():
        assert isinstance(made, Command)  # `command` makes no others
        bound.add_command(_bound(made, host), name)
    return bound


def bind_one(made: Command, host: Host) -> click.Command:
    """A command that stands by itself, as this host runs it."""
    return _bound(made, host)


def _bound(made: Command, host: Host) -> click.Command:
    own = {parameter.name for parameter in made.params}
    shared = [] if made.needs is Needs.NOTHING else common(host, made.needs)

    # Ape looks for an argument of this name, to put its connection there.
    def run(provider: Any = None, **values: Any) -> None:
        mine = {name: value for name, value in values.items() if name in own}
        chosen = {name: value for name, value in values.items() if name not in own}
        chosen["provider"] = provider
        _run(made, host, mine, chosen)

    return host.command(made.needs)(
        made.name,
        callback=run,
        params=[*made.params, *host.options(made.needs), *shared, JSON],
        help=made.help,
        epilog=made.epilog,
    )


def _run(made: Command, host: Host, mine: dict[str, Any], chosen: dict[str, Any]) -> None:
    from teraproof.cli.ui import ConsoleUi

    as_json = bool(chosen.pop("as_json"))
    ui = ConsoleUi(yes=bool(chosen.pop("yes", False)), quiet=as_json)
    session: Session | None = None
    with OneLine(host, as_json), ui:
        networks = chosen.pop("private_networks", ())
        session = host.open(made.needs, chosen, ui)
        session.networks, session.places = networks, tuple(_named_places(made, mine))
        _limit_recursion()
        try:
            assert made.callback is not None
            result = made.callback(session, **mine)
        except (TeraproofError, OSError) as error:
            known = expected(error)
            if known is None:
                raise
            known.details.setdefault("transactions", session.sent())
            raise known from None
        finally:
            session.close()
        if as_json:
            sent = session.sent()
            document = dict(result or {}) | ({"transactions": sent} if sent else {})
            if ui.notes:
                document["notes"] = ui.notes
            click.echo(json.dumps(document, indent=2))


def _named_places(made: Command, mine: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The hosts and ports that a person has typed, as URLs or as HOST:PORT: they may be anywhere.
    What providers write of themselves is public.
    """
    for parameter in made.params:
        place = getattr(parameter.type, "place", None)
        given = mine.get(parameter.name or "")
        for text in given if isinstance(given, tuple) else (given,):
            if text and place is not None:
                yield place(text)


def _limit_recursion() -> None:
    # Libraries that come with Ape's accounts raise it a hundredfold. Then a stranger's answer of
    # many brackets would end the process instead of being refused.
    sys.setrecursionlimit(min(sys.getrecursionlimit(), _RECURSION))


# ---------------------------------------------------------------------- errors


class OneLine:
    """Turns expected errors into `Failure`; a bug keeps its traceback."""

    def __init__(self, host: Host | None = None, as_json: bool = False) -> None:
        self._host, self._as_json = host, as_json

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, click.exceptions.Exit):
            return
        if isinstance(error, click.ClickException):
            self._document(error)
            return
        told = told_of(error)
        if told is None and self._host is not None:
            told = self._host.told(error)
        if told is not None:
            known = expected(error)
            details = {} if known is None else known.details
            raise Failure(*told, details if self._as_json else None) from None

    def _document(self, error: click.ClickException) -> None:
        """A command line that cannot be read is one line, too, and with --json a document."""
        if isinstance(error, click.UsageError):
            details: dict[str, Any] | None = {} if self._as_json else None
            raise Failure(error.format_message(), Code.INPUT_INVALID, details) from None
        if not self._as_json:
            return
        if isinstance(error, Failure) and error.details is None:
            error.details = {}


class Failure(click.ClickException):
    """One line, and the exit code of its kind. `details` are shown in JSON unless they are None."""

    def __init__(self, line: str, code: Code, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(line)
        self.code, self.details = code, details
        self.exit_code = int(code.exit)

    def show(self, file: Any = None) -> None:
        """Print the line, and the document if one is wanted."""
        click.echo(f"error: {self.message}", err=True, file=file)
        if self.details is None:
            return
        error = {
            "code": self.code.value,
            "message": self.message,
            "retryable": self.code.retryable,
            "details": {key: value for key, value in self.details.items() if value not in ([], ())},
        }
        click.echo(json.dumps({"error": error}, indent=2, default=str))


# ---------------------------------------------------------------------- types of options


def named(param: click.Parameter | None, otherwise: str) -> str:
    """As a person knows a parameter: by its option, or by the word of the usage."""
    if isinstance(param, click.Option):
        return param.opts[0]
    return otherwise if param is None else param.human_readable_name


class _Networks(click.ParamType):
    name = "networks"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Network, ...]:
        """Networks such as 10.0.0.0/8."""
        from teraproof.names import ip_block

        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(ip_block(one) for one in value.split(",") if one.strip())
        except ValueError as error:
            line = f"{named(param, 'networks')}: {error} (several with commas)"
            raise Failure(line, Code.INPUT_INVALID) from None


class _Address(click.ParamType):
    name = "address"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """An EIP-55 address."""
        from teraproof.errors import LocalError
        from teraproof.protocol.terms import address

        try:
            return address(named(param, "address"), value)
        except LocalError as error:
            raise Failure(str(error), Code.INPUT_INVALID) from None


ADDRESS = _Address()
provider_option = click.option(
    "--provider",
    "owner",
    type=ADDRESS,
    help="Owner address of the provider; default: the account itself.",
)
