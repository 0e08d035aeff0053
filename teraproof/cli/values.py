# SPDX-License-Identifier: Apache-2.0
"""Values of options: read when the command line is, before a chain or an account is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from teraproof import amounts, names
from teraproof.cli.frame import Failure
from teraproof.errors import LocalError, WrongInput


class Value(click.ParamType):
    """What `read` makes of a text; it raises WrongInput with the name that it is given."""

    def __init__(self, name: str, read: Callable[[str, str], Any]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; Failure when it is not one."""
        if not isinstance(value, str):
            return value
        named = self.name
        if isinstance(param, click.Option):
            named = param.opts[0]
        elif param is not None:
            named = param.human_readable_name
        try:
            return self._read(value, named)
        except WrongInput as error:
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
#: An http(s) URL, as it is.
URL = Value("url", names.http_url)
#: Owner addresses, each once, in the order of an allow-list.
OWNERS = Value("owners", _owners)
#: A job's id, or its first digits, with 0x.
JOB = Value("job", lambda text, name: "0x" + names.job_digits(text, name))
