# SPDX-License-Identifier: Apache-2.0
"""gateway.toml: what the gateway listens on, pays at most, prefers, and whom it serves."""

from __future__ import annotations

import os
import tomllib
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from teraproof import settings_faults
from teraproof.amounts import without_groups
from teraproof.errors import LocalError, WrongInput, of_file
from teraproof.names import ip_block
from teraproof.protocol.terms import address
from teraproof.storage.reach import Reach

_INSIDE = (
    "if that is where it should be, name its network in route.private_networks of gateway.toml"
)

Period = Literal["day", "month", "total"]
Sort = Literal["price", "latency", "throughput"]


def _ungrouped(value: object) -> object:
    """Amounts may be written as the programs show them, "1,000.5"."""
    return without_groups(value) if isinstance(value, str) else value


def _check_address(value: str) -> str:
    try:
        return address("address", value)
    except LocalError as error:
        raise ValueError(str(error)) from None


def _check_network(value: str) -> str:
    return str(ip_block(value))


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Address = Annotated[str, AfterValidator(_check_address)]
Network = Annotated[str, AfterValidator(_check_network)]
Amount = Annotated[
    Decimal, BeforeValidator(_ungrouped), Field(ge=0, max_digits=30, decimal_places=18)
]


class Section(BaseModel):
    """A table of the file."""

    # The text below a field is its meaning in the documentation.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ListenSettings(Section):
    """Where programs find the gateway, and how much of it they may use at once."""

    host: str = "127.0.0.1"
    """Address to listen on. Whoever reaches it and has a key can spend that key's budget."""
    port: int = Field(default=8780, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""
    max_parallel: int = Field(default=256, ge=1, le=10_000)
    """Requests that run at once; further ones are refused with 503."""
    max_body_bytes: int = Field(default=8 << 20, ge=1_024, le=1 << 28)
    """Longest body of a request."""
    max_held_bytes: int = Field(default=512 << 20, ge=1 << 20, le=1 << 40)
    """What long requests and answers may take together, beyond the first MiB of each. One that
    finds no room fails.
    """
    data_dir: Path = Path("gateway-data")
    """Channels, vouchers, receipts and the log. Back it up: what is needed to take deposits back is
    here.
    """
    log_days: int = Field(default=90, ge=1, le=3_650)
    """How long the rows of the activity log and their receipts are kept."""
    evidence_days: int = Field(default=180, ge=1, le=3_650)
    """How long it is kept what was learned of a provider and model, since the last look at it.
    A provider that was found out has as long to wait until it is asked again.
    """


class PaySettings(Section):
    """What may be deposited, in whole payment tokens."""

    total: Amount = Decimal(20)
    """Most that all deposits together may come to, less what was refunded. Claimed parts count."""
    per_provider: Amount = Decimal(5)
    """The same for the channels of one provider."""
    deposit: Amount = Decimal(1)
    """What one channel is opened or topped up with; less where the budget is smaller."""
    max_min_deposit: Amount | None = None
    """A provider that wants more than this in a channel is not used. What it holds cannot be spent
    elsewhere, for a week if it goes away. Without it `deposit` is the limit.
    """
    channels_per_provider: int = Field(default=16, ge=1, le=4_096)
    """Requests to one provider that run at once: each needs a channel of its own."""
    step_tokens: int = Field(default=256, ge=1, le=1_000_000)
    """Tokens of a streamed answer that one voucher pays for."""
    max_withdraw_delay_seconds: int = Field(default=7 * 86_400, ge=900, le=2_592_000)
    """A provider that could keep a deposit for longer after it has gone away is not used."""


class RouteSettings(Section):
    """How a host is chosen where a request does not say."""

    sort: Sort | None = None
    """Order by this alone; without it by the expected price of a good answer, then by latency."""
    only: tuple[Address, ...] = ()
    """Use these providers and no other."""
    ignore: tuple[Address, ...] = ()
    """Never use these providers."""
    max_tries: int = Field(default=4, ge=1, le=32)
    """Hosts that are tried for one request."""
    first_content_seconds: float = Field(default=60.0, gt=0, le=3_600)
    """After which a host that has sent no content yet is given up for another one."""
    idle_seconds: float = Field(default=60.0, gt=0, le=3_600)
    """Longest pause inside an answer."""
    answer_seconds: float = Field(default=1_800.0, gt=0, le=86_400)
    """Longest time for a whole answer."""
    max_answer_bytes: int = Field(default=64 << 20, ge=1_024, le=1 << 31)
    """Longest answer of a host."""
    canary_rate: float = Field(default=0.02, ge=0, le=1)
    """The part of requests that another host of the model gets as well, to compare the answers.
    They are paid from the same budgets. A new host gets more of them. 0: nobody does.
    """
    trusted: tuple[Address, ...] = ()
    """Providers whose answers settle a difference between two hosts, such as one of your own."""
    refresh_seconds: float = Field(default=60.0, ge=1, le=86_400)
    """How often the providers, their models and prices are read again."""
    private_networks: tuple[Network, ...] = ()
    """Networks that are not public where hosts may be all the same, such as `127.0.0.0/8` for hosts
    on this machine. Providers write their addresses, so without it only public ones are asked.
    """

    @property
    def reach(self) -> Reach:
        """Where hosts may be."""
        return Reach.of_strangers(
            map(ip_network, self.private_networks), plain=True, advice=_INSIDE
        )


class KeySettings(Section):
    """An application, the file with its key, and what it may spend."""

    file: Path
    """File with the key, at least 16 characters. Only its owner may read it."""
    budget: Amount
    """Whole payment tokens that requests with this key may cost per `period`."""
    period: Period = "day"
    """When the budget begins again: each day or month (UTC), or never (`total`)."""
    models: tuple[str, ...] = ()
    """Models that the key may ask for; without any, all."""


class GatewaySettings(Section):
    """The whole file."""

    listen: ListenSettings = ListenSettings()
    pay: PaySettings = PaySettings()
    route: RouteSettings = RouteSettings()
    names: dict[Name, Address] = Field(default_factory=dict)
    """Names for providers, to be used in a request's `provider` object."""
    tokenizers: dict[str, Path] = Field(default_factory=dict)
    """Models by name, each with the file `tokenizer.json` of its publisher. The tokens that are
    billed for its answers are counted again (extra `tokenizers`). Not for models that hide a part
    of what they write.
    """
    keys: dict[Name, KeySettings] = Field(min_length=1)
    """One table for each application."""

    @property
    def most_wanted(self) -> Decimal:
        """The highest least deposit of a provider that is used."""
        return self.pay.deposit if self.pay.max_min_deposit is None else self.pay.max_min_deposit

    @model_validator(mode="after")
    def _fits(self) -> GatewaySettings:
        if self.pay.per_provider > self.pay.total:
            raise ValueError("pay.per_provider is above pay.total")
        if not self.pay.deposit:
            raise ValueError("pay.deposit is 0, so no channel could be opened")
        return self


def load(path: Path) -> GatewaySettings:
    """The file; its relative paths begin at its own folder. WrongInput names what is wrong."""
    try:
        found = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise WrongInput(
            f"{path} is not there; make one with: teraproof gateway init", path=str(path)
        ) from None
    except OSError as error:
        raise of_file(error, path, "cannot read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongInput(f"{path}: not valid TOML ({error})", path=str(path)) from None
    try:
        settings = GatewaySettings.model_validate(found)
    except ValidationError as error:
        line = f"{path}: {settings_faults.in_one_line(error)}"
        raise WrongInput(line, path=str(path)) from None
    home = path.absolute().parent
    listen = settings.listen.model_copy(update={"data_dir": home / settings.listen.data_dir})
    keys = {
        name: key.model_copy(update={"file": home / key.file})
        for name, key in settings.keys.items()
    }
    tokenizers = {name: home / file for name, file in settings.tokenizers.items()}
    return settings.model_copy(update={"listen": listen, "keys": keys, "tokenizers": tokenizers})


def write_template(path: Path, key_file: str) -> None:
    """A commented file at `path`, with one key in `key_file`. Never an existing one."""
    text = _TEMPLATE.format(key_file=key_file)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise WrongInput(
            f"{path} exists already; move it away or choose another name", path=str(path)
        ) from None
    except OSError as error:
        raise of_file(error, path, "cannot write") from None
    with os.fdopen(handle, "w") as out:
        out.write(text)


_TEMPLATE = """\
# Settings of `teraproof gateway`. docs/inference.md explains all of them.
# Amounts are whole payment tokens, as text. Relative paths begin at this file's folder.

[listen]
host = "127.0.0.1"
port = 8780

[pay]
# Most that all deposits together may come to, and those with one provider.
total = "20"
per_provider = "5"
# One channel's deposit. Each request that runs at once needs a channel.
deposit = "1"
# Providers that want more than `deposit` in a channel are not used, unless you allow it:
# max_min_deposit = "2"
channels_per_provider = 16
# A streamed answer is paid by steps of this many tokens, one step ahead.
step_tokens = 256

[route]
# Hosts are ranked by the expected price of a good answer, then by latency. Or by one of these:
# sort = "price"          # or "latency", "throughput"
# only = ["0xOWNER"]      # of providers; `teraproof models` lists them
# ignore = ["0xOWNER"]
# Hosts at addresses that are not public, for tests on one machine:
# private_networks = ["127.0.0.0/8"]

[names]
# Names that a request's `provider` object may use instead of addresses:
# fast = "0xOWNER"

[tokenizers]
# Recount what is billed for a model, with the tokenizer.json of its publisher:
# "some-model" = "some-model.tokenizer.json"   # pip install 'teraproof[tokenizers]'

# One table for each application. It sends its key as OpenAI's clients do, as a bearer token.
[keys.default]
file = "{key_file}"
budget = "5"
period = "day"            # or "month", "total"
# models = ["some-model"]
"""
