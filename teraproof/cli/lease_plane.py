# SPDX-License-Identifier: Apache-2.0
"""For tenants: the way into the containers of a lease: logs, a shell, ports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import click

from teraproof.cli.frame import Needs, Result, Session, command
from teraproof.cli.lease_group import cli, endpoint_option, find, lease_argument
from teraproof.cli.values import PLACE
from teraproof.errors import LocalError, WrongInput

if TYPE_CHECKING:
    from teraproof.market.lease_plane import Way
    from teraproof.market.leases import Lease

_Made = TypeVar("_Made", bound=Callable[..., object])
_KEY_BYTES = 64 << 10


def way_options(made: _Made) -> _Made:
    """Where the data plane and the agent are, and which container is meant."""
    for option in reversed(_WAY):
        made = option(made)
    return made


def place_options(made: _Made) -> _Made:
    """Where the data plane and the agent are."""
    for option in reversed(_PLACE):
        made = option(made)
    return made


_PLACE = (
    click.option(
        "--plane",
        type=PLACE,
        metavar="HOST:PORT",
        help="The data plane; default: as its agent says.",
    ),
    endpoint_option,
)
_WAY = (
    click.option("--service", help="Which service; default: the only one."),
    click.option(
        "--number",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Which of its replicas.",
    ),
    *_PLACE,
)


@command(cli, Needs.ACCOUNT)
@lease_argument
@way_options
@click.option("--follow", "-f", is_flag=True, help="Go on until the container ends.")
@click.option(
    "--tail",
    type=click.IntRange(min=0, max=100_000),
    default=1_000,
    show_default=True,
    help="Lines from the end to begin with.",
)
def logs(session: Session, lease_id: str, follow: bool, tail: int, **given: Any) -> Result:
    """Show what a container of an active lease prints."""
    from teraproof.client import dataplane
    from teraproof.market.lease_plane import Lines, service_of
    from teraproof.protocol.dataplane import Request, What

    lease, way = _way(session, lease_id, given)
    service = service_of(lease, given["service"])
    lines: list[str] = []

    def show(text: str) -> None:
        if session.as_json:
            lines.append(text)
        session.ui.line(text)

    out, errors = Lines(show), Lines(show)
    request = Request(lease.lease, What.LOGS, service, given["number"], follow=follow, tail=tail)
    dataplane.logs(way.place, way.key, request, cast(BinaryIO, out), cast(BinaryIO, errors))
    out.end()
    errors.end()
    return {"lease": "0x" + lease.lease.hex(), "service": service, "lines": lines}


@command(cli, Needs.ACCOUNT)
@lease_argument
@click.argument("words", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@way_options
def shell(session: Session, lease_id: str, words: tuple[str, ...], **given: Any) -> Result:
    """Run a program in a container of an active lease: a shell, or COMMAND. Exits as it does."""
    from teraproof.client import terminal
    from teraproof.market.lease_plane import service_of
    from teraproof.protocol.dataplane import Request, What

    lease, way = _way(session, lease_id, given)
    service = service_of(lease, given["service"])
    wanted = Request(
        lease.lease, What.SHELL, service, given["number"], command=words or ("/bin/sh",)
    )
    code = terminal.shell(way.place, way.key, wanted)
    if code:
        raise click.exceptions.Exit(code)
    return {"lease": "0x" + lease.lease.hex(), "service": service, "exit_code": code}


@command(cli, Needs.ACCOUNT)
@lease_argument
@click.argument("port", type=click.IntRange(1, 65_535))
@way_options
@click.option(
    "--local-port",
    type=click.IntRange(0, 65_535),
    default=0,
    help="Of this machine; default: any that is free.",
)
def connect(session: Session, lease_id: str, port: int, local_port: int, **given: Any) -> Result:
    """Lead a port of this machine to PORT in a container, until Ctrl-C. For ssh: lease ssh."""
    from teraproof.client import dataplane
    from teraproof.market.lease_plane import service_of
    from teraproof.protocol.dataplane import Request, What

    lease, way = _way(session, lease_id, given)
    service = service_of(lease, given["service"])

    def ready(number: int) -> None:
        session.ui.step(f"127.0.0.1:{number} leads to port {port} of {service}; Ctrl-C ends it")

    def say(error: LocalError) -> None:
        session.ui.note(str(error))

    wanted = Request(lease.lease, What.PORT, service, given["number"], port)
    dataplane.forward(way.place, way.key, wanted, local_port, ready, say)
    return None


@command(cli, Needs.ACCOUNT)
@lease_argument
@click.argument("words", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@way_options
@click.option("--user", default="root", show_default=True, help="Who logs in.")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=22,
    show_default=True,
    help="Where the ssh server of the container listens.",
)
def ssh(
    session: Session, lease_id: str, words: tuple[str, ...], user: str, port: int, **given: Any
) -> Result:
    """Run this machine's ssh into a container of an active lease. Exits as it does.

    The image has to run an ssh server, and the file names its port. `lease shell` needs neither.
    """
    from teraproof.market import lease_ssh
    from teraproof.market.lease_plane import service_of

    lease_ssh.program()  # before anything is asked
    lease, way = _way(session, lease_id, given)
    service = service_of(lease, given["service"])
    code = lease_ssh.run(way, session.ui, lease, service, given["number"], port, user, words)
    if code:
        raise click.exceptions.Exit(code)
    return {"lease": "0x" + lease.lease.hex(), "service": service, "exit_code": code}


@command(cli, Needs.ACCOUNT)
@lease_argument
@way_options
def ports(session: Session, lease_id: str, **given: Any) -> Result:
    """Show where the public ports of an active lease are."""
    from teraproof.market import lease_plane

    lease, way = _way(session, lease_id, given)
    return _shown(session, lease_plane.ports(way, lease))


@command(cli, Needs.ACCOUNT)
@lease_argument
@click.argument("outer", metavar="PORT", type=click.IntRange(1, 65_535))
@way_options
@click.option("--certificate", type=click.Path(path_type=Path), help="PEM, with its chain.")
@click.option("--key", type=click.Path(path_type=Path), help="Its private key, PEM.")
@click.option("--plain", is_flag=True, help="The container speaks TLS itself.")
def publish(
    session: Session,
    lease_id: str,
    outer: int,
    certificate: Path | None,
    key: Path | None,
    plain: bool,
    **given: Any,
) -> Result:
    """Serve a public port (its `as` number in the file) with your own certificate, or as it is.

    The provider holds the key then, until the lease ends. Without --certificate it uses its own.
    """
    from teraproof.client import dataplane
    from teraproof.market import lease_plane
    from teraproof.protocol.dataplane import Request, What

    if plain and (certificate or key):
        raise WrongInput("give --plain, or --certificate and --key")
    if (certificate is None) is not (key is None):
        raise WrongInput("give --certificate and --key together")
    chain = "" if certificate is None else _pem(certificate)
    private = "" if key is None else _pem(key)
    lease, way = _way(session, lease_id, given)
    service = lease_plane.service_of(lease, given["service"])
    wanted = Request(
        lease.lease,
        What.PUBLISH,
        service,
        port=outer,
        mode="plain" if plain else "tls",
        certificate=chain,
        key=private,
    )
    dataplane.asked(way.place, way.key, wanted)
    session.ui.step(f"port {outer} of {service} is served {'as it is' if plain else 'over TLS'}")
    return _shown(session, lease_plane.ports(way, lease))


@command(cli, Needs.ACCOUNT)
@lease_argument
@place_options
def revoke(session: Session, lease_id: str, **given: Any) -> Result:
    """Take back all session keys of an active lease, and end what they have opened.

    For a machine or a key that was lost. The next command signs for a new key.
    """
    from teraproof.market import lease_plane

    lease = find(session, lease_id)
    session.ui.doing("looking for the data plane")
    lease_plane.revoke(
        session.market,
        session.signer,
        lease,
        plane=given["plane"],
        endpoint=given["endpoint"],
    )
    session.ui.step("no session key that was signed until now is good any more")
    return {"lease": f"0x{lease.lease.hex()}"}


def _way(session: Session, lease_id: str, given: dict[str, Any]) -> tuple[Lease, Way]:
    from teraproof.market import lease_plane

    lease = find(session, lease_id)
    session.ui.doing("looking for the data plane")
    way = lease_plane.way_to(
        session.market,
        session.signer,
        lease,
        plane=given["plane"],
        endpoint=given["endpoint"],
    )
    return lease, way


def _shown(session: Session, listed: list[dict[str, Any]]) -> Result:
    from teraproof.protocol.errors import one_line

    names = list(dict.fromkeys(name for one in listed for name in one))
    rows = [[one_line(one.get(name, "")) for name in names] for one in listed]
    session.ui.table("Public ports", [one_line(name) for name in names] or ["none"], rows)
    return {"ports": listed}


def _pem(path: Path) -> str:
    try:
        with path.open("rb") as source:
            return source.read(_KEY_BYTES + 1).decode("ascii")
    except OSError as error:
        raise WrongInput(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WrongInput(f"{path}: not PEM") from None
