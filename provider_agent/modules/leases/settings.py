# SPDX-License-Identifier: Apache-2.0
"""What of this machine is rented out by the second, and at what price."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from provider_agent.core.settings import Amount, Network, Section, Unit, load_mapping, split
from teraproof.protocol.lease_offer import FORM, Capacity, LeaseOffer, Prices
from teraproof.protocol.leasespec import DEFINITIONS

_HOURLY = Unit("payment tokens per hour")
_MODEL = DEFINITIONS["gpu"]["properties"]["model"]
_PortNumber = Annotated[int, Field(ge=1, le=65_535)]
_Hourly = Annotated[Amount, Field(le=Decimal(10**9))]


def _check_models(value: dict[str, object]) -> dict[str, object]:
    for model in value:
        offer = LeaseOffer(Capacity(0, 0, 0), Capacity(0, 0, 0), Prices(gpu={model: 0}))  # type: ignore[dict-item]
        if FORM.faults(offer.to_json()):
            raise ValueError(f"{model!r} is not the name of a model: {_MODEL['description']}")
    return value


def _check_attributes(value: dict[str, str]) -> dict[str, str]:
    empty = Capacity(0, 0, 0)
    faults = FORM.faults(LeaseOffer(empty, empty, Prices(), attributes=value).to_json())
    if faults:
        raise ValueError(faults[0])
    return value


class LeasesSettings(Section):
    """Leases. A machine with a price and with `chain.leases` rents out what is idle."""

    core_price: Annotated[_Hourly, _HOURLY] = Decimal(0)
    """Price of a core."""
    memory_price: Annotated[_Hourly, Unit("payment tokens per GiB and hour")] = Decimal(0)
    """Price of memory."""
    disk_price: Annotated[_Hourly, Unit("payment tokens per GiB and hour")] = Decimal(0)
    """Price of storage."""
    gpu_prices: Annotated[
        dict[str, _Hourly], BeforeValidator(load_mapping), AfterValidator(_check_models), _HOURLY
    ] = Field(default_factory=dict)
    """Price of a GPU by its model, such as `{h100 = 2.5, rtx4090 = 0.4}`. Others are not for rent.
    """
    gpu_names: Annotated[dict[str, str], BeforeValidator(load_mapping)] = Field(
        default_factory=dict
    )
    """What a model is called by NVML, where that name does not hold the model, such as
    `{h100 = "NVIDIA Graphics Device"}`."""
    gpu_interface: Literal["", "pcie", "sxm"] = ""
    """How the GPUs are connected. Without it the names of the GPUs say it, or nobody does."""
    price_command: Annotated[tuple[str, ...], BeforeValidator(split)] = ()
    """A program that names the price. It gets JSON on its stdin: `seconds`, `needs`, `services`,
    and `per_hour` by the table. It prints whole tokens per hour, or nothing to decline."""
    price_command_seconds: float = Field(default=5.0, gt=0, le=30)
    """How long that program may take. After that no price is named."""
    min_seconds: int = Field(default=600, ge=1)
    """Shortest term."""
    max_seconds: int = Field(default=30 * 86_400, ge=1, lt=2**32)
    """Longest term. What the contract can lock is a limit as well."""
    notice_seconds: int = Field(default=3_600, ge=0, lt=2**32)
    """Notice that is promised, and given before this machine leaves."""
    ready_seconds: int = Field(default=900, ge=30, lt=2**32)
    """Time from the hire until a lease has to be ready. Who is not loses the collateral, also where
    no node has answered."""
    down_seconds: float = Field(default=30.0, ge=0)
    """How long a container may be down, or nothing be known of it, before the lease is suspended
    and no rent runs."""
    quote_seconds: int = Field(default=60, ge=10, le=3_600)
    """How long a signed quote is valid."""
    settle_hours: float = Field(default=24.0, gt=0)
    """How often rent is collected while a lease runs, at most. It waits until it is worth more than
    the gas that it can cost, at `chain.coin_price` and `chain.max_fee_gwei`. The end pays the rest.
    """
    max_collateral: Annotated[Amount, Unit("TPF")] = Decimal(1_000)
    """Most collateral that one lease may lock. The owner's limits on chain apply as well."""
    collateral_per_token: Annotated[Amount, Unit("TPF per payment token")] = Decimal(10)
    """Most collateral that a lease may lock for each payment token that it pays in a day."""
    max_leases: Annotated[int, Unit("leases")] = Field(default=100, ge=0, le=10_000)
    """Most leases at a time, quotes included."""
    max_containers: Annotated[int, Unit("containers")] = Field(default=50, ge=1, le=1_000)
    """Most containers of one lease."""
    cpus: Annotated[int | None, Unit("cores")] = Field(default=None, ge=0, le=1_024)
    """Cores that all leases may have together. Without it: those that jobs leave."""
    memory_mb: int | None = Field(default=None, ge=0)
    """Memory that all leases may have together. Without it: what is not promised."""
    disk_mb: int | None = Field(default=None, ge=0)
    """Disk that all leases may have together. Without it: what is not promised."""
    region: str = Field(default="", max_length=64)
    """Where the machine is; tenants see it as the attribute `region`."""
    attributes: Annotated[
        dict[str, str], BeforeValidator(load_mapping), AfterValidator(_check_attributes)
    ] = Field(default_factory=dict)
    """What the machine says of itself, such as `{tier = "community"}`."""
    classes: Annotated[tuple[Literal["beta1", "beta2", "beta3"], ...], BeforeValidator(split)] = ()
    """Media for volumes: `beta1` hard disk, `beta2` SSD, `beta3` NVMe."""
    outbound: bool = False
    """Give leases a way to the internet. Most images need one."""
    data_host: str = "0.0.0.0"  # noqa: S104 - tenants come from everywhere
    """Address on which tenants reach their containers."""
    data_port: int = Field(default=8702, ge=0, le=65_535)
    """Port of it; 0 takes a free one. It speaks TLS itself, so no proxy belongs in front."""
    data_name: str = Field(default="", max_length=253)
    """Name or address by which tenants reach it. Without it: that of `api.public_url`."""
    outer_ports: Annotated[tuple[_PortNumber, _PortNumber] | None, BeforeValidator(split)] = None
    """First and last of the ports that are for public ports of leases, such as `[30000, 30999]`.
    Without them no public ports are offered."""
    names_port: int | None = Field(default=None, ge=1, le=65_535)
    """Port at which the public reaches leases by the names of hosts. Without it none are offered.
    """
    checkpoints: bool = True
    """Save what leases name in their tenants' stores, and begin with it again. Needs boto3."""
    runner: Literal["docker", "ray"] = "docker"
    """`docker` runs leases on this machine. `ray` runs them on the machines of a Ray cluster, in
    Docker there. The settings of Docker below are for each of them."""
    ray_address: str = ""
    """Where Ray's head listens, as `HOST:PORT`."""
    ray_token_file: Path | None = None
    """File with Ray's token. Only its owner may read it."""
    ray_data_dir: Path = Path("/var/lib/teraproof-leases")
    """Where each machine of a fleet keeps what it has of leases."""
    ray_port: int = Field(default=0, ge=0, le=65_535)
    """Port at which this agent reaches its part on each machine of a fleet; 0 takes a free one."""
    docker_socket: Path = Path("/var/run/docker.sock")
    """Where Docker Engine listens."""
    addresses: Network = "198.19.0.0/16"
    """Addresses inside leases. Nothing else of this machine may use them."""
    resolvers: Annotated[tuple[str, ...], BeforeValidator(split)] = ("9.9.9.9", "1.1.1.1")
    """Name servers of leases that may reach the internet."""
    image_mb: int = Field(default=32_768, ge=1)
    """What the images of a lease may take of the disk, unpacked, where they have room."""
    pull_seconds: float = Field(default=1_800.0, gt=0)
    """How long fetching an image may take."""

    @model_validator(mode="after")
    def _terms_fit(self) -> LeasesSettings:
        if self.min_seconds > self.max_seconds:
            raise ValueError("min_seconds must not be above max_seconds")
        if self.outer_ports is not None and self.outer_ports[0] > self.outer_ports[1]:
            raise ValueError("outer_ports: give the first one first")
        _check_attributes(dict(self.said))
        return self

    @model_validator(mode="after")
    def _fleet_is_named(self) -> LeasesSettings:
        if self.runner != "ray":
            return self
        host, _, port = self.ray_address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ValueError("ray_address: give HOST:PORT of Ray's head, such as 10.0.0.1:6379")
        if self.ray_token_file is None:
            raise ValueError(
                "ray_token_file: name the file with Ray's token; `ray get-auth-token --generate` "
                "makes ~/.ray/auth_token"
            )
        if not self.ray_data_dir.is_absolute():
            raise ValueError("ray_data_dir: give a whole path, for it is on other machines")
        for name in ("cpus", "memory_mb", "disk_mb"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: leave it out; what leases may have of a machine is said to Ray "
                    "there (--num-cpus, --memory, --resources)"
                )
        return self

    @property
    def is_set(self) -> bool:
        """Whether anything has a price."""
        prices = (self.core_price, self.memory_price, self.disk_price, *self.gpu_prices.values())
        return any(prices) or bool(self.price_command)

    @property
    def public_ports(self) -> int:
        """How many public ports leases may have together."""
        first, last = self.outer_ports or (1, 0)
        return last - first + 1

    @property
    def said(self) -> Mapping[str, str]:
        """What the machine says of itself."""
        region = {"region": self.region} if self.region else {}
        return {**self.attributes, **region}
