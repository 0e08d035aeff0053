# SPDX-License-Identifier: Apache-2.0
"""For tenants: check a file of Akash's SDL, and read one for an order. The callbacks import what
they need.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from teraproof.cli.frame import Needs, Result, Session, command
from teraproof.cli.lease_group import cli
from teraproof.cli.lease_saving import Ordered, saved_by
from teraproof.errors import LocalError, WrongInput, counted
from teraproof.protocol.errors import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from teraproof.market.leases import Lease as OnChain
    from teraproof.protocol.leasespec import LeaseSpec, Service
    from teraproof.sdl.leases import Examined, Lease
    from teraproof.sdl.stack import Credentials

_MICRO = 10**6


@command(cli, Needs.NOTHING)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--akt-usd",
    metavar="DOLLARS",
    help="What one AKT is worth, for prices in uakt. Default: 1, which is said.",
)
def check(session: Session, file: Path, akt_usd: str | None) -> Result:
    """Show what FILE would rent and its highest price, or all that is wrong with it. No chain.

    FILE is SDL, version 2.0 or 2.1, as Akash's tools read it.
    """
    from teraproof.sdl.leases import HOUR, MONTH, examine

    akt = _rate(akt_usd)
    examined = examine(_read(file))
    if examined.faults:
        _fail(session, file, examined)
    for lease in examined.leases:
        _show(session, lease, akt)
    for notice in examined.notices:
        session.ui.note(str(notice))
    assumed = akt_usd is None and any(lease.denom == "uakt" for lease in examined.leases)
    if assumed:
        session.ui.note("prices are in uakt and read as 1 AKT = 1 dollar; see --akt-usd")
    hour, month = (
        sum((lease.dollars(seconds, akt) for lease in examined.leases), Fraction(0))
        for seconds in (HOUR, MONTH)
    )
    session.ui.step(
        f"no fault was found; {counted(len(examined.leases), 'lease')}, at most "
        f"${_shown(hour)} an hour or ${_shown(month)} in 30 days, everything included"
    )
    return {
        "file": str(file),
        "leases": [_to_json(lease, akt) for lease in examined.leases],
        "group_specs": examined.group_specs(),
        "akt_usd": _decimal(akt),
        "akt_usd_assumed": assumed,
        "usd_per_hour": _decimal(hour),
        "usd_per_30_days": _decimal(month),
        "notices": [notice.placed() for notice in examined.notices],
        "faults": [],
    }


def orders_of(session: Session, file: Path, given: Mapping[str, Any]) -> list[Ordered]:
    """The leases that an order is for, by its file and its options, and what one AKT is worth in
    dollars.

    WrongInput when the file is not valid, asks for no lease of this name, or has prices in AKT
    whose worth nobody has said: money moves by them.
    """
    from teraproof.sdl.leases import examine

    group, akt_usd = given["group"], given["akt_usd"]

    examined = examine(_read(file))
    if examined.faults:
        _fail(session, file, examined)
    for notice in examined.notices:
        session.ui.note(str(notice))
    found = [lease for lease in examined.leases if group in (None, lease.spec.name)]
    if not found:
        names = ", ".join(lease.spec.name for lease in examined.leases)
        raise WrongInput(f"{file} asks for no lease {group!r}, but for {names}")
    if akt_usd is None and any(lease.denom == "uakt" for lease in found):
        raise WrongInput(
            f"{file}: prices are in uakt; say what one AKT is worth, such as --akt-usd 0.55"
        )
    akt = _rate(akt_usd)
    if given.get("allow"):
        found = [replace(one, spec=replace(one.spec, allow=given["allow"])) for one in found]
    return saved_by([Ordered(lease, akt) for lease in found], given)


def order_of(session: Session, file: Path, given: Mapping[str, Any]) -> Ordered:
    """As `orders_of`, for what takes one lease. WrongInput for a file with several, of which none
    is named.
    """
    found = orders_of(session, file, given)
    if len(found) > 1:
        names = ", ".join(one.lease.spec.name for one in found)
        raise WrongInput(f"{file} asks for {len(found)} leases ({names}); name one with --group")
    return found[0]


def credentials_of(
    session: Session, lease: OnChain, file: Path | None, group: str | None
) -> Mapping[str, Credentials]:
    """What the registries of a lease ask for, by service, from the file that it was ordered by.

    WrongInput for a file that was named and is another lease's.
    """
    from teraproof.market import lease_notes, leases
    from teraproof.sdl.leases import examine

    spec = lease_notes.spec_of(lease.terms.order.spec)
    if file is None:
        where = leases.notes_of(session.market, lease.terms.requester)
        note = lease_notes.of_lease(where, lease.lease)
        wanted = spec is None or any(service.registry for service in spec.services)
        if note is None or not note.file or not wanted or not Path(note.file).is_file():
            return {}
        found = examine(_read(Path(note.file))).leases
        same = [one for one in found if _saving(one.spec, spec).digest() == lease.terms.order.spec]
        return same[0].credentials if same else {}
    examined = examine(_read(file))
    if examined.faults:
        _fail(session, file, examined)
    for one in examined.leases:
        named = _saving(one.spec, spec)
        if named.digest() == lease.terms.order.spec and group in (None, one.spec.name):
            lease_notes.keep_spec(named)
            return one.credentials
    raise WrongInput(f"{file} is not the file of this lease: its specification is another one")


def _saving(found: LeaseSpec, ordered: LeaseSpec | None) -> LeaseSpec:
    """What a file says, with what the options of the order have added."""
    if ordered is None:
        return found
    return replace(found, checkpoints=ordered.checkpoints, allow=ordered.allow)


def _read(file: Path) -> bytes:
    from teraproof.sdl.tree import MAX_BYTES

    try:
        with file.open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except OSError as error:
        raise WrongInput(f"cannot read {file}: {error.strerror}") from None


def _fail(session: Session, file: Path, examined: Examined) -> None:
    for fault in examined.faults:
        session.ui.note(str(fault))
    unsold = examined.stack is not None and all(
        fault.code is Code.SDL_UNSUPPORTED for fault in examined.faults
    )
    what = counted(len(examined.faults), "fault")
    said = "asks for what is not sold" if unsold else "cannot be leased by"
    details: dict[str, Any] = {"faults": [fault.to_json() for fault in examined.faults]}
    if examined.stack is not None:
        details["group_specs"] = examined.group_specs()
    code = Code.SDL_UNSUPPORTED if unsold else Code.SDL_INVALID
    raise LocalError(f"{file} {said}: {what}, listed above", code, **details)


def _rate(text: str | None) -> Fraction:
    from teraproof.amounts import units

    micro = _MICRO if text is None else units(text, 6, "--akt-usd")
    if micro == 0:
        raise WrongInput("--akt-usd: give what one AKT is worth in dollars, above 0")
    return Fraction(micro, _MICRO)


def _show(session: Session, lease: Lease, akt: Fraction) -> None:
    from teraproof.amounts import show_seconds
    from teraproof.sdl.leases import HOUR, MONTH

    needs, notice = lease.spec.needs(), lease.spec.notice_seconds
    session.ui.table(
        f"Lease {lease.spec.name}",
        ("service", "replicas", "image", "cores", "memory", "disk", "GPUs", "ports"),
        [_row(service) for service in lease.spec.services],
    )
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(lease.spec.attributes.items()))
    rows = [
        ("specification", "0x" + lease.spec.digest().hex()),
        ("cores", _cores(needs.cpu_millis)),
        ("memory", _size(needs.memory_bytes)),
        ("disk", _size(needs.disk_bytes)),
        ("GPUs", str(needs.gpu_count)),
        ("way to the internet", "yes, as on Akash" if lease.spec.outbound else "no"),
        ("attributes of the provider", attributes or "any"),
        ("notice of the provider", f"at least {show_seconds(notice)}" if notice else "any"),
        ("highest price an hour", f"${_shown(lease.dollars(HOUR, akt))}"),
        ("highest price in 30 days", f"${_shown(lease.dollars(MONTH, akt))}"),
    ]
    session.ui.table(f"All of lease {lease.spec.name}", ("what", "value"), rows)


def _row(service: Service) -> tuple[str, ...]:
    each = service.resources
    sorts = " or ".join(str(sort) for sort in each.gpu_sorts)
    ports = [
        f"{port.port} as {port.as_port}/{port.protocol}"
        + (" public" if port.public else "")
        + (f" for {', '.join(port.services)}" if port.services else "")
        for port in service.ports
    ]
    return (
        service.name,
        str(service.count),
        service.image,
        _cores(each.cpu_millis),
        _size(each.memory_bytes),
        _size(each.disk_bytes),
        f"{each.gpus} x {sorts}" if each.gpus else "0",
        "; ".join(ports) or "none",
    )


def _to_json(lease: Lease, akt: Fraction) -> dict[str, Any]:
    from teraproof.sdl.leases import HOUR, MONTH
    from teraproof.sdl.quantities import ATTO

    return {
        "name": lease.spec.name,
        "spec": "0x" + lease.spec.digest().hex(),
        "specification": lease.spec.to_json(),
        "needs": lease.spec.needs().to_json(),
        "price": {
            "denom": lease.denom,
            "per_block": _decimal(Fraction(lease.atto, ATTO), 18),
            "usd_per_hour": _decimal(lease.dollars(HOUR, akt)),
            "usd_per_30_days": _decimal(lease.dollars(MONTH, akt)),
        },
    }


def _cores(millis: int) -> str:
    return f"{millis // 1000}" if millis % 1000 == 0 else f"{millis / 1000:g}"


def _size(count: int) -> str:
    """Bytes in the largest unit of which they are a whole number, or MiB."""
    for power, name in ((40, "TiB"), (30, "GiB")):
        if count >= 1 << power and count % (1 << power) == 0:
            return f"{count >> power:,} {name}"
    return f"{count / (1 << 20):,.6g} MiB"


def _shown(dollars: Fraction) -> str:
    """Dollars with cents, and with smaller parts where there are any."""
    whole, _, rest = _decimal(dollars).partition(".")
    return f"{int(whole):,}.{rest.rstrip('0'):0<2}"


def _decimal(number: Fraction, places: int = 6) -> str:
    """Dollars, or units of a denomination, rounded up: what is charged is never more."""
    whole, rest = divmod(-(-number * 10**places // 1), 10**places)
    return f"{whole}.{rest:0{places}d}"
