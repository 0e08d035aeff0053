# SPDX-License-Identifier: Apache-2.0
"""The agent's settings: one TOML file, overridden by the environment. Nothing else reads either.

A variable `TERAPROOF_<SECTION>__<FIELD>` (`TERAPROOF_API__PORT=8800`) replaces a field of the file.
Relative paths count from the directory of the file. Secrets are never in here: fields name files.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from provider_agent.errors import SettingsError
from provider_agent.prover.engine import PATTERN
from teraproof.errors import LocalError
from teraproof.protocol.siwe import authority
from teraproof.protocol.terms import address

PREFIX = "TERAPROOF_"
_SHOWN_FAULTS = 5
# Pydantic's words for these are about its own things.
_REASONS = {
    "extra_forbidden": "unknown setting; remove it",
    "missing": "is missing; add it",
}


def _check_address(value: str) -> str:
    try:
        return address("address", value)
    except LocalError as error:
        raise ValueError(str(error)) from None


def _check_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("give a URL that starts with http:// or https://")
    return value


def _check_public_url(value: str) -> str:
    try:
        authority(_check_url(value))
    except LocalError as error:
        raise ValueError(str(error)) from None
    return value.rstrip("/")


def _split(value: object) -> object:
    """A list may come from the environment: JSON, or parts between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _load_mapping(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _check_network(value: str) -> str:
    return str(ip_network(value.strip()))


Network = Annotated[str, AfterValidator(_check_network)]
Address = Annotated[str, AfterValidator(_check_address)]
Url = Annotated[str, AfterValidator(_check_url)]
PublicUrl = Annotated[str, AfterValidator(_check_public_url)]
Amount = Annotated[Decimal, Field(ge=0, max_digits=30, decimal_places=18)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChainSettings(_Section):
    """Where the contracts are and how to reach them."""

    rpc_urls: Annotated[tuple[Url, ...], BeforeValidator(_split), Field(min_length=1)]
    chain_id: int = Field(ge=1, lt=2**63)
    staking: Address
    jobs: Address
    benchmark: Address | None = None
    """Where speed is proven; without it the agent proves nothing."""
    emissions: Address | None = None
    """Where rewards are claimed, each as soon as its epoch has ended; needs `benchmark`. Without it
    they are claimed through `benchmark`.
    """
    start_block: int = Field(default=0, ge=0)
    """Block of the deployment: no older logs are read."""
    confirmations: int = Field(default=2, ge=0, le=256)
    """Blocks behind the head at which a cycle reads the chain."""
    reorg_window: int = Field(default=64, ge=1, le=10_000)
    """Blocks that are read again at each poll."""
    block_seconds: float | None = Field(default=None, gt=0, le=600)
    """Time between two blocks; measured on the chain where it is not given."""
    poll_seconds: float = Field(default=2.0, gt=0, le=600)
    rpc_timeout_seconds: float = Field(default=10.0, gt=0, le=120)
    """Time for a whole request to one endpoint, its answer included."""
    requests_per_second: float | None = Field(default=None, ge=1, le=10_000)
    """Most requests to each endpoint: set it below what your provider admits. Without it: 20, and
    no limit for a node on this machine. An endpoint that says "too many" gets fewer.
    """
    strangers_requests_per_second: float = Field(default=2.0, ge=0.1, le=1_000)
    """Most requests that the API's visitors can cause, all of them together; beside the others."""
    log_range: int = Field(default=2_000, ge=1, le=1_000_000)
    """Most blocks in one request for logs; it is halved where an endpoint does not admit it."""
    ca_file: Path | None = None
    """Certificates (PEM) to trust beside the system's: for a node behind an authority of yours."""
    max_fee_gwei: Amount = Decimal(200)
    """Most that a unit of gas may cost, tip included."""
    max_tip_gwei: Amount = Decimal(5)
    """Most of that which goes to the block's producer, whatever nodes ask for."""

    @model_validator(mode="after")
    def _window_covers_confirmations(self) -> ChainSettings:
        if self.reorg_window < self.confirmations:
            raise ValueError("reorg_window must not be smaller than confirmations")
        return self

    @model_validator(mode="after")
    def _emissions_need_a_benchmark(self) -> ChainSettings:
        if self.emissions is not None and self.benchmark is None:
            raise ValueError("emissions needs benchmark, the contract with the scores")
        return self


class OperatorSettings(_Section):
    """The operator's key: a keystore with its password file, or a file with the bare key."""

    keystore: Path | None = None
    password_file: Path | None = None
    private_key_file: Path | None = None


class AgentSettings(_Section):
    """The agent itself."""

    data_dir: Path = Path("agent-data")
    lock_dir: Path | None = None
    """Where the agents of a machine tell each other which keys and devices they use; a directory of
    the system without it. Agents in containers need one that they share.
    """
    slots: int = Field(default=1, ge=1, le=256)
    """Jobs that run at once."""
    accept_ahead: int = Field(default=1, ge=0, le=16)
    """Jobs a slot that may be taken and wait, if their deadlines allow it."""
    keep_results_hours: float = Field(default=168, gt=0)
    """How long inputs and results stay after a job has ended."""
    max_in_flight: int = Field(default=16, ge=1, le=256)
    """Transactions sent and not yet mined."""


class ApiSettings(_Section):
    """The HTTP API."""

    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=0, le=65_535)
    public_url: PublicUrl = "http://127.0.0.1:8700"
    """What tenants call it: the endpoint on chain, and the domain that they sign in to."""
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(_split)] = ()
    """Addresses or networks of our own reverse proxies. Their X-Forwarded-For tells clients apart;
    without it all that come through a proxy share one limit of sign-ins.
    """


class RunnerSettings(_Section):
    """How jobs are contained, and what one job may use."""

    kind: Literal["process"] = "process"
    sandbox: Literal["bubblewrap", "none"] = "bubblewrap"
    """`none` runs the work of strangers as your own user: only for work you trust."""
    runtimes: Annotated[dict[str, Path], BeforeValidator(_load_mapping)] = Field(
        default_factory=dict
    )
    """Names that a specification may ask for, and the Python environments that they mean."""
    cpus: int = Field(default=1, ge=1, le=1024)
    memory_mb: int = Field(default=2_048, ge=64)
    disk_mb: int = Field(default=4_096, ge=1)
    output_mb: int = Field(default=16, ge=1)
    pids: int = Field(default=256, ge=8)
    input_mb: int = Field(default=8_192, ge=1)
    """Inputs of one job, all together."""
    disk_mb_per_second: int = Field(default=50, ge=1)
    """How fast inputs and outputs are copied and hashed on this machine, about."""
    disk_reserve_mb: int = Field(default=2_048, ge=0)
    """Disk that no job is promised."""
    gpus: int = Field(default=0, ge=0, le=64)
    """GPUs that one job may hold; a slot needs as many."""


class JobsSettings(_Section):
    """Which jobs are taken."""

    price_per_hour: Amount = Decimal(1)
    """Payment tokens an hour of the specification's timeout must pay at least."""
    min_price: Amount = Decimal("0.01")
    """Payment tokens that every job must pay at least: a job costs you some 200,000 gas, however
    short it is."""
    max_collateral: Amount = Decimal(1_000)
    """TPF that one job may lock; the owner's limits on chain count as well."""
    collateral_per_token: Amount = Decimal(100)
    """TPF that a job may lock for each payment token of its price."""
    max_seconds: int = Field(default=86_400, ge=1)
    """Longest timeout of a specification."""
    margin_seconds: int = Field(default=60, ge=0)
    """Time between the timeout of a run and the deadline of its job, at least."""
    quote_seconds: int = Field(default=900, ge=10, le=86_400)
    """How long a signed quote is good for."""
    accept_refusable: bool = False
    """Take orders whose tenant may, after the work is done, burn its price and your collateral."""


class BenchmarkSettings(_Section):
    """How this machine proves its speed; for `chain.benchmark`."""

    enabled: bool = True
    device: str = Field(default="cpu", pattern=PATTERN)
    """What computes: cpu, numpy (slow), cuda, cuda:1, or several GPUs as one: cuda:0,1."""
    last_commits: int = Field(default=3, ge=1, le=16)
    """Commits for the last blocks of a window, one a block, each to more rounds than before. What
    counts is the last that is mined in time; each costs gas, beside two early ones.
    """
    min_rounds: int = Field(default=1, ge=1, le=1 << 24)
    """Fewer rounds than this are not worth a commit."""
    openings_per_transaction: int = Field(default=8, ge=1, le=8)
    with_jobs: bool = False
    """Prove while jobs run, too; both get slower."""
    report_faults: bool = True
    """Report proofs of others that were committed and not opened."""


class Settings(_Section):
    """All of it. Times are seconds, sizes MiB, token amounts whole tokens."""

    chain: ChainSettings
    operator: OperatorSettings
    agent: AgentSettings = AgentSettings()
    api: ApiSettings = ApiSettings()
    runner: RunnerSettings = RunnerSettings()
    jobs: JobsSettings = JobsSettings()
    benchmark: BenchmarkSettings = BenchmarkSettings()


def load(file: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read a settings file and the overrides. SettingsError is one line that names the field."""
    document = _read(file)
    _override(document, environ)
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{file}: {_faults(error)}") from None
    return _resolved(settings, file.absolute().parent)


def _faults(error: ValidationError) -> str:
    """What is wrong, in one line: the first few fields, and how many more there are."""
    said = []
    for fault in error.errors():
        field = ".".join(str(part) for part in fault["loc"]) or "settings"
        reason = _REASONS.get(fault["type"], fault["msg"].removeprefix("Value error, "))
        said.append(" ".join(f"{field}: {reason}".split()))
    more = len(said) - _SHOWN_FAULTS
    return "; ".join(said[:_SHOWN_FAULTS] + ([f"and {more} more"] if more > 0 else []))


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(
            f"cannot read {file}: {error.strerror}; make one with: provider-agent init"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}") from None


def _override(document: dict[str, Any], environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        section, _, field = name.removeprefix(PREFIX).lower().partition("__")
        known = Settings.model_fields.get(section)
        if known is None or field not in known.annotation.model_fields:  # type: ignore[union-attr]  # sections are models
            raise SettingsError(f"{name}: there is no setting {section}.{field}; unset it")
        part = document.setdefault(section, {})
        if not isinstance(part, dict):
            raise SettingsError(f"{section}: expected a table of settings")
        try:
            part[field] = environ[name]
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from None


_AnySection = TypeVar("_AnySection", bound=_Section)


def _resolved(settings: Settings, base: Path) -> Settings:
    """The settings with absolute paths."""

    def within(section: _AnySection) -> _AnySection:
        paths = {
            name: base / value.expanduser() for name, value in section if isinstance(value, Path)
        }
        return section.model_copy(update=paths)

    runner = settings.runner.model_copy(
        update={
            "runtimes": {
                name: base / path.expanduser() for name, path in settings.runner.runtimes.items()
            }
        }
    )
    return settings.model_copy(
        update={
            "chain": within(settings.chain),
            "operator": within(settings.operator),
            "agent": within(settings.agent),
            "runner": runner,
        }
    )
