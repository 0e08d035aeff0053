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
from dataclasses import dataclass
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
from provider_agent.runners.containment import ACCEPTED
from teraproof.errors import LocalError
from teraproof.protocol import siwe
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
        siwe.authority(_check_url(value))
    except LocalError as error:
        raise ValueError(str(error)) from None
    return value.rstrip("/")


def _check_origin(value: str) -> str:
    try:
        return siwe.origin(value)
    except LocalError as error:
        raise ValueError(str(error)) from None


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


@dataclass(frozen=True)
class Unit:
    """What a number counts, where the ending of its name does not say it; for the reference."""

    name: str


Network = Annotated[str, AfterValidator(_check_network)]
Address = Annotated[str, AfterValidator(_check_address)]
Url = Annotated[str, AfterValidator(_check_url)]
Origin = Annotated[str, AfterValidator(_check_origin)]
PublicUrl = Annotated[str, AfterValidator(_check_public_url)]
Amount = Annotated[Decimal, Field(ge=0, max_digits=30, decimal_places=18)]


class _Section(BaseModel):
    # The text below a field is its meaning in the reference (`provider-agent settings`).
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ChainSettings(_Section):
    """Where the contracts are and how to reach them."""

    rpc_urls: Annotated[tuple[Url, ...], BeforeValidator(_split), Field(min_length=1)]
    """Nodes of the chain. Name two or more of different hosts: each is asked in its turn."""
    chain_id: int = Field(ge=1, lt=2**63)
    """Number of the chain. A node of another chain is not used."""
    staking: Address
    """Address of the `Staking` contract."""
    jobs: Address
    """Address of the `Jobs` contract."""
    benchmark: Address | None = None
    """Address of the `Benchmark` contract. Without it the agent proves nothing."""
    emissions: Address | None = None
    """Address of the `Emissions` contract, which needs `chain.benchmark`. Rewards are claimed here
    as soon as their epoch has ended. Without it they are claimed through `chain.benchmark`.
    """
    start_block: int = Field(default=0, ge=0)
    """Block of the deployment. Older logs are not read."""
    confirmations: Annotated[int, Unit("blocks")] = Field(default=2, ge=0, le=256)
    """Blocks behind the head at which a cycle reads the chain."""
    reorg_window: Annotated[int, Unit("blocks")] = Field(default=64, ge=1, le=10_000)
    """Logs of this many blocks are read again at each poll. Not below `chain.confirmations`."""
    block_seconds: float | None = Field(default=None, gt=0, le=600)
    """Time between two blocks. Without it the agent measures it."""
    poll_seconds: float = Field(default=2.0, gt=0, le=600)
    """Pause between two cycles. After a cycle that wrote something the next one follows at once."""
    rpc_timeout_seconds: float = Field(default=10.0, gt=0, le=120)
    """Time for a whole request to one endpoint, including the answer."""
    requests_per_second: Annotated[float | None, Unit("requests per second")] = Field(
        default=None, ge=1, le=10_000
    )
    """Highest rate to each endpoint. Set it below what your RPC provider admits. Without it the
    rate is 20, and a node on this machine has no limit. An endpoint that refuses gets fewer.
    """
    strangers_requests_per_second: Annotated[float, Unit("requests per second")] = Field(
        default=2.0, ge=0.1, le=1_000
    )
    """Highest rate that all visitors of the API together can cause. It is a budget of its own."""
    log_range: Annotated[int, Unit("blocks")] = Field(default=2_000, ge=1, le=1_000_000)
    """Most blocks in one request for logs. It is halved where an endpoint refuses."""
    ca_file: Path | None = None
    """Certificates (PEM) to trust besides the system's, for a node behind your own authority."""
    max_fee_gwei: Amount = Decimal(200)
    """Highest price of a unit of gas, including the tip."""
    max_tip_gwei: Amount = Decimal(5)
    """Highest tip for the block's producer, whatever nodes ask for."""

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
    """Encrypted key file, as `provider-agent init` makes it."""
    password_file: Path | None = None
    """File with the password of the keystore. Only its owner may read it."""
    private_key_file: Path | None = None
    """File with the bare private key, instead of a keystore."""


class AgentSettings(_Section):
    """The agent itself."""

    data_dir: Path = Path("agent-data")
    """Database, inputs, runs and results."""
    lock_dir: Path | None = None
    """Where the agents of a machine show each other which keys and devices they use. Without it a
    directory of the system is taken. Agents in containers need one that they share.
    """
    slots: Annotated[int, Unit("jobs")] = Field(default=1, ge=1, le=256)
    """Jobs that run at once."""
    accept_ahead: Annotated[int, Unit("jobs per slot")] = Field(default=1, ge=0, le=16)
    """Jobs that may be taken and wait for a slot, if their deadlines allow it."""
    keep_results_hours: float = Field(default=168, gt=0)
    """How long inputs and results stay after a job has ended."""
    max_in_flight: Annotated[int, Unit("transactions")] = Field(default=16, ge=1, le=256)
    """Most transactions that are sent and not yet mined."""


class ApiSettings(_Section):
    """The HTTP API."""

    host: str = "127.0.0.1"
    """Address to listen on. Leave it local and put a reverse proxy with TLS in front."""
    port: int = Field(default=8700, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""
    public_url: PublicUrl = "http://127.0.0.1:8700"
    """What tenants call. It is the endpoint on chain, and the domain that they sign in to."""
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(_split)] = ()
    """Addresses or networks of your own reverse proxies. Their X-Forwarded-For names the client.
    Without it all clients of a proxy share the limits of one address.
    """
    allowed_origins: Annotated[tuple[Origin, ...], BeforeValidator(_split)] = ()
    """Web pages that may call the API from a browser (CORS), such as `https://app.example`. Their
    users sign in under the page's own domain.
    """
    status_host: str = "127.0.0.1"
    """Address of the listener for `/healthz`, `/readyz` and `/metrics`."""
    status_port: int | None = Field(default=None, ge=0, le=65_535)
    """Port of that listener; 0 takes a free one. Without it: the port after `api.port`."""

    @property
    def status_port_in_use(self) -> int:
        """The port of the status listener; 0 for any."""
        if self.status_port is not None:
            return self.status_port
        return self.port + 1 if 0 < self.port < 65_535 else 0


class RunnerSettings(_Section):
    """How jobs are contained, and what one job may use."""

    kind: Literal["process"] = "process"
    """How jobs run."""
    sandbox: Literal["bubblewrap", "none"] = "bubblewrap"
    """`none` runs the work of strangers as your own user. Use it only for work that you trust."""
    allow_unlimited: Literal["", ACCEPTED] = ""
    """Where this machine cannot hold jobs to their memory and disk, the agent refuses to run any.
    The sentence of docs/operations.md here accepts that: only for work that you trust.
    """
    runtimes: Annotated[dict[str, Path], BeforeValidator(_load_mapping)] = Field(
        default_factory=dict
    )
    """Names that a job may ask for, and the Python environment that each name means."""
    cpus: Annotated[int, Unit("cores")] = Field(default=1, ge=1, le=1024)
    """Cores that one job may use."""
    memory_mb: int = Field(default=2_048, ge=64)
    """Memory that one job may use, all its processes together."""
    disk_mb: int = Field(default=4_096, ge=1)
    """Disk that one job may use, in addition to its inputs."""
    output_mb: int = Field(default=16, ge=1)
    """What is kept of a job's stdout and stderr. A job that prints four times as much is ended."""
    pids: Annotated[int, Unit("processes")] = Field(default=256, ge=8)
    """Most processes and threads of one job."""
    input_mb: int = Field(default=8_192, ge=1)
    """Most that the inputs of one job may measure together."""
    disk_mb_per_second: Annotated[int, Unit("MiB per second")] = Field(default=50, ge=1)
    """How fast this machine copies and hashes files, roughly. Deadlines are planned with it."""
    disk_reserve_mb: int = Field(default=2_048, ge=0)
    """Disk that is promised to no job and taken by no upload."""
    inode_reserve: Annotated[int, Unit("files")] = Field(default=2_048, ge=0)
    """Files that the disk must still have room for, besides what jobs and uploads take."""
    memory_reserve_mb: int = Field(default=256, ge=0)
    """Memory that is promised to no job."""
    gpus: Annotated[int, Unit("GPUs")] = Field(default=0, ge=0, le=64)
    """GPUs that one job may hold. Each slot needs as many."""


class JobsSettings(_Section):
    """Which jobs are taken."""

    price_per_hour: Annotated[Amount, Unit("payment tokens per hour")] = Decimal(1)
    """Lowest price of a job, for each hour of its timeout."""
    min_price: Annotated[Amount, Unit("payment tokens")] = Decimal("0.01")
    """Lowest price of any job. A job costs you some 200,000 gas, however short it is."""
    max_collateral: Annotated[Amount, Unit("TPF")] = Decimal(1_000)
    """Most collateral that one job may lock. The owner's limits on chain apply as well."""
    collateral_per_token: Annotated[Amount, Unit("TPF per payment token")] = Decimal(100)
    """Most collateral that a job may lock for each payment token of its price."""
    max_seconds: int = Field(default=86_400, ge=1)
    """Longest timeout that a job may ask for."""
    margin_seconds: int = Field(default=60, ge=0)
    """Least time between the timeout of a run and the deadline of its job."""
    quote_seconds: int = Field(default=60, ge=10, le=86_400)
    """How long a signed quote is valid."""
    accept_refusable: bool = False
    """Take orders whose tenant may burn the price and your collateral after the work is done."""


class BenchmarkSettings(_Section):
    """How this machine proves its throughput to `chain.benchmark`."""

    enabled: bool = True
    """Prove in every window."""
    device: str = Field(default="cpu", pattern=PATTERN)
    """What computes: `cpu`, `numpy` (slow), `cuda`, `cuda:1`, several GPUs as one (`cuda:0,1`), or
    PyTorch (`torch:cuda`, `torch:xpu`, `torch:mps`, `torch:cpu`).
    """
    last_commits: Annotated[int, Unit("commits")] = Field(default=3, ge=1, le=16)
    """Commits in the last blocks of a window, one per block, each to more rounds. The last one that
    is mined in time counts. Each costs gas. Two early commits come in addition.
    """
    min_rounds: Annotated[int, Unit("rounds")] = Field(default=1, ge=1, le=1 << 24)
    """Fewer rounds than this are not committed."""
    openings_per_transaction: Annotated[int, Unit("samples")] = Field(default=8, ge=1, le=8)
    """Samples that one transaction opens."""
    with_jobs: bool = False
    """Prove while jobs run. Both get slower."""
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
