# SPDX-License-Identifier: Apache-2.0
"""The settings that every agent has, and what those of its modules are made of.

`provider_agent.settings` reads them. Secrets are never in here: fields name files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from provider_agent.runners.containment import ACCEPTED
from teraproof.amounts import without_groups
from teraproof.errors import LocalError
from teraproof.names import ip_block
from teraproof.protocol import siwe
from teraproof.protocol.terms import address


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


def split(value: object) -> object:
    """A list may come from the environment: JSON, or parts between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def load_mapping(value: object) -> object:
    """A table may come from the environment, as JSON."""
    return json.loads(value) if isinstance(value, str) else value


def _check_network(value: str) -> str:
    return str(ip_block(value))


@dataclass(frozen=True)
class Unit:
    """What a number counts, where the ending of its name does not say it; for the reference."""

    name: str


def _ungrouped(value: object) -> object:
    """Amounts may be written as the programs show them, "1,000.5"."""
    return without_groups(value) if isinstance(value, str) else value


Network = Annotated[str, AfterValidator(_check_network)]
Address = Annotated[str, AfterValidator(_check_address)]
Url = Annotated[str, AfterValidator(_check_url)]
Origin = Annotated[str, AfterValidator(_check_origin)]
PublicUrl = Annotated[str, AfterValidator(_check_public_url)]
Amount = Annotated[
    Decimal, BeforeValidator(_ungrouped), Field(ge=0, max_digits=30, decimal_places=18)
]


class Section(BaseModel):
    """A table of the settings file."""

    # The text below a field is its meaning in the reference (`provider-agent settings`).
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


_AnySection = TypeVar("_AnySection", bound=Section)


class ChainSettings(Section):
    """Where the contracts are and how to reach them."""

    rpc_urls: Annotated[tuple[Url, ...], BeforeValidator(split), Field(min_length=1)]
    """Nodes of the chain. Name two or more of different hosts: each is asked in its turn."""
    chain_id: int = Field(ge=1, lt=2**63)
    """Number of the chain. A node of another chain is not used."""
    staking: Address
    """Address of the `Staking` contract."""
    jobs: Address | None = None
    """Address of the `Jobs` contract. Without it the agent takes no jobs."""
    leases: Address | None = None
    """Address of the `Leases` contract. Without it the agent rents nothing out."""
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
    clock_margin_seconds: float = Field(default=120.0, ge=5)
    """Largest difference between the machine's clock and the chain's. Beyond it no job is taken."""
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
    coin_price: Annotated[Amount, Unit("payment tokens per coin")] = Decimal(10_000)
    """What a coin of the chain, with which gas is paid, costs at most. What brings less than its
    gas can cost is not collected."""

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


class OperatorSettings(Section):
    """The operator's key: a keystore with its password file, or a file with the bare key."""

    keystore: Path | None = None
    """Encrypted key file, as `provider-agent init` makes it."""
    password_file: Path | None = None
    """File with the password of the keystore. Only its owner may read it."""
    private_key_file: Path | None = None
    """File with the bare private key, instead of a keystore."""


class AgentSettings(Section):
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
    private_networks: Annotated[tuple[Network, ...], BeforeValidator(split)] = ()
    """Networks that are not public, which this agent may reach all the same: agents of other
    providers, and stores of tenants. Such as `127.0.0.0/8` for a market on one machine. Strangers
    write these addresses, so without it only public ones are asked.
    """
    max_in_flight: Annotated[int, Unit("transactions")] = Field(default=16, ge=1, le=256)
    """Most transactions that are sent and not yet mined."""


class ApiSettings(Section):
    """The HTTP API."""

    host: str = "127.0.0.1"
    """Address to listen on. Leave it local and put a reverse proxy with TLS in front."""
    port: int = Field(default=8700, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""
    public_url: PublicUrl = "http://127.0.0.1:8700"
    """What tenants call. It is the endpoint on chain, and the domain that they sign in to."""
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(split)] = ()
    """Addresses or networks of your own reverse proxies. Their X-Forwarded-For names the client.
    Without it all clients of a proxy share the limits of one address.
    """
    allowed_origins: Annotated[tuple[Origin, ...], BeforeValidator(split)] = ()
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


class RunnerSettings(Section):
    """How jobs are contained, and what one job may use."""

    kind: Literal["process"] = "process"
    """How jobs run."""
    sandbox: Literal["bubblewrap", "none"] = "bubblewrap"
    """`none` runs the work of strangers as your own user. Use it only for work that you trust."""
    allow_unlimited: Literal["", ACCEPTED] = ""  # type: ignore[valid-type]  # a Final text
    """Where this machine cannot hold jobs to their memory and disk, the agent refuses to run any.
    The sentence of docs/operations.md here accepts that: only for work that you trust.
    """
    runtimes: Annotated[dict[str, Path], BeforeValidator(load_mapping)] = Field(
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
    """What is kept of a job's stdout and stderr. A job that prints four times as much is ended.
    A deterministic job has 16, whatever is set."""
    pids: Annotated[int, Unit("processes")] = Field(default=256, ge=8)
    """Most processes and threads of one job. A deterministic job has 256; with less than that set
    no such job is taken."""
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


class Settings(Section):
    """What every agent has. Times are seconds, sizes MiB, token amounts whole tokens.

    The sections of the modules are fields of a class below this one; a module asks for its own.
    """

    chain: ChainSettings
    operator: OperatorSettings
    agent: AgentSettings = AgentSettings()
    api: ApiSettings = ApiSettings()
    runner: RunnerSettings = RunnerSettings()

    def section(self, kind: type[_AnySection]) -> _AnySection:
        """The section of a module. KeyError when the settings were made without the module."""
        for _, section in self:
            if isinstance(section, kind):
                return section
        raise KeyError(kind.__name__)
