# SPDX-License-Identifier: Apache-2.0
"""Values of options: read when the command line is, before a chain or an account is asked for."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from teraproof import amounts, names
from teraproof.cli.frame import Failure, named
from teraproof.errors import LocalError, WrongInput


class Value(click.ParamType):
    """What `read` makes of a text; it raises WrongInput with the name that it is given. `place` is
    the host and port that such a value names, where it names one.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[str, str], Any],
        place: Callable[[str], tuple[str, int]] | None = None,
    ) -> None:
        self.name, self._read, self.place = name, read, place

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; Failure when it is not one."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value, named(param, self.name))
        except LocalError as error:
            raise Failure(str(error), error.code) from None


def _owners(text: str, name: str) -> tuple[str, ...]:
    """Addresses with a comma between two."""
    from teraproof.protocol import allow_list  # these load much; help does without
    from teraproof.protocol.terms import address

    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise WrongInput(f"{name}: name the owners' addresses, with a comma between two")
    try:
        return allow_list.ordered([address(name, part) for part in found])
    except LocalError as error:
        raise WrongInput(str(error)) from None


def _price(text: str, name: str) -> str:
    """As it is: the market knows how many decimals its token has, and what it is called."""
    number, _, symbol = text.strip().partition(" ")
    amounts.units(number, amounts.ETHER_DECIMALS, name)
    if symbol and not symbol.isalnum():
        raise WrongInput(f"{name}: {text!r} is not an amount; write 12.5 or 1_000")
    return text


def _stake(text: str, name: str) -> str | int:
    return text if text == "all" else amounts.tpf(text, name)


#: TPF wei.
TPF = Value("tpf", amounts.tpf)
#: TPF wei, or the word `all`.
TPF_OR_ALL = Value("tpf", _stake)
#: The text of an amount of a token whose decimals are not known yet.
PRICE = Value("price", _price)
#: Whole seconds.
SECONDS = Value("duration", amounts.seconds)
#: Integer operations per second.
RATE = Value("speed", amounts.rate)
#: In 1/10,000.
SHARE = Value("share", amounts.basis_points)


def _host_of(url: str) -> tuple[str, int]:
    from teraproof.storage.uris import parse

    found = parse(url)
    return found.host, found.port


#: An http(s) URL, as it is.
URL = Value("url", names.http_url, _host_of)
#: Owner addresses, each once, in the order of an allow-list.
OWNERS = Value("owners", _owners)


def _hourly(text: str, name: str) -> Fraction:
    from teraproof.market.lease_prices import hourly

    return hourly(text, name)


def _part(text: str, name: str) -> Fraction:
    from teraproof.market.lease_offers import share

    return share(text, name)


def _access(text: str, name: str) -> Path:
    """The file, which opens a store; it is read again where it is used."""
    from teraproof.storage.access import Access

    file = Path(text)
    Access.of_file(file)
    return file


def _uri(text: str, name: str) -> str:
    from teraproof.storage.uris import parse

    try:
        parse(text)
    except LocalError as error:  # the line does not repeat it: it may hold a password
        raise WrongInput(f"{name}: {error}") from None
    return text


def _host_and_port(text: str) -> tuple[str, int]:
    from teraproof.client.dataplane import host_and_port

    return host_and_port(text)


def _place(text: str, name: str) -> str:
    try:
        _host_and_port(text)
    except WrongInput as error:
        raise WrongInput(f"{name}: {error}") from None
    return text


#: A `host:port`, as it is.
PLACE = Value("place", _place, _host_and_port)
#: Dollars an hour, exactly.
HOURLY = Value("price", _hourly)
#: A part of all, exactly.
PART = Value("share", _part)
#: With nine decimals: GB/s in bytes per second, or a billionth part of a GiB.
BILLIONTHS = Value("amount", lambda text, name: amounts.units(text, 9, name))
#: A file with the credentials of a store.
ACCESS = Value("file", _access)
#: The URI of an object or a store, as it is.
URI = Value("uri", _uri)
#: A lease's id, or its first digits, with 0x.
LEASE = Value("lease", lambda text, name: "0x" + names.lease_digits(text, name))
#: A job's id, or its first digits, with 0x.
JOB = Value("job", lambda text, name: "0x" + names.job_digits(text, name))
