# SPDX-License-Identifier: Apache-2.0
"""A lease specification as a runner takes it: one to one, with what only the provider knows."""

from __future__ import annotations

from collections.abc import Mapping

from provider_agent.devices import Device
from provider_agent.runners.base import MIB
from provider_agent.runners.lease import Lease, Port, Service, Volume
from teraproof.errors import Refused
from teraproof.protocol import leasespec
from teraproof.protocol.errors import Code


def lease_of(
    lease_id: str,
    spec: leasespec.LeaseSpec,
    *,
    images: Mapping[str, str],
    devices: Mapping[str, tuple[Device, ...]],
    outbound: bool,
) -> Lease:
    """The lease to run. By service, `images` are names with digests, and `devices` the GPUs of all
    its containers together. `outbound` is whether the provider lets leases reach the internet.
    Raises Refused where it does not, and the specification asks for it.
    """
    if spec.outbound and not outbound:
        raise Refused(
            Code.NETWORK_NOT_OFFERED,
            "the lease needs the internet, and the provider gives leases no way there",
        )
    return Lease(
        lease_id,
        tuple(
            _service(each, images[each.name], devices.get(each.name, ())) for each in spec.services
        ),
        spec.outbound,
        copies_of(spec),
    )


def copies_of(spec: leasespec.LeaseSpec) -> int:
    """Bytes that copies on their way may take, with what is remembered of the files."""
    if spec.saved is None:
        return 0
    size = spec.saved[0].bytes
    return size + size // 4 + 8 * MIB


def _service(spec: leasespec.Service, image: str, devices: tuple[Device, ...]) -> Service:
    given = spec.resources
    if len(devices) != given.gpus * spec.count:
        raise Refused(
            Code.LEASE_UNFIT,
            f"{spec.name} needs {given.gpus * spec.count} GPUs, and {len(devices)} were given",
        )
    return Service(
        name=spec.name,
        image=image,
        cpu=given.cpu_millis,
        memory=given.memory_bytes,
        storage=given.root_bytes,
        shm=given.shm_bytes,
        command=spec.command,
        args=spec.args,
        env=spec.env,
        ports=tuple(_port(each) for each in spec.ports),
        volumes=tuple(
            Volume(each.name, each.mount, each.bytes, each.read_only) for each in given.volumes
        ),
        devices=devices,
        count=spec.count,
        after=spec.after,
    )


def _port(spec: leasespec.Port) -> Port:
    """The outer number of a port for the public is the business of the door."""
    moved = bool(spec.services) and spec.as_port != spec.port
    return Port(spec.port, spec.protocol, spec.as_port if moved else 0)
