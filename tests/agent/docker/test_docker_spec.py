# SPDX-License-Identifier: Apache-2.0
"""From a file of SDL to containers: each limit and name arrives as it was written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from provider_agent.devices import Device
from provider_agent.runners.lease import Lease, Port, Service
from provider_agent.runners.lease_spec import lease_of
from teraproof.errors import Refused, SpecError
from teraproof.protocol import leasespec
from teraproof.protocol.errors import Code
from teraproof.sdl.leases import read
from tests.agent.docker.conftest import Yard
from tests.agent.docker.test_docker_network import SERVES, reached, soon
from tests.sdk.lease_documents import documents
from tests.support.codes import fails_as
from tests.support.sdl import FULL

FILE = """
version: "2.0"
services:
  app:
    image: IMAGE
    command: ["/bin/sh", "-c"]
    args: ["trap exit TERM; sleep 600 & wait"]
    env: ["GREETING=hello you"]
    dependencies: [{service: web}]
    expose: [{port: 80, to: [{global: true}]}]
  web:
    image: IMAGE
    command: ["/bin/sh", "-c", "SERVES"]
    expose: [{port: 8080, as: 8443, to: [{service: app}]}]
    params: {storage: {data: {mount: /data}}}
profiles:
  compute:
    small:
      resources:
        cpu: {units: 250m}
        memory: {size: 40Mi}
        storage: [{size: 12Mi}]
    kept:
      resources:
        cpu: {units: 100m}
        memory: {size: 32Mi}
        storage:
          - {size: 8Mi}
          - {name: data, size: 6Mi, attributes: {persistent: true, class: beta2}}
  placement:
    here:
      pricing:
        small: {denom: uact, amount: 100}
        kept: {denom: uact, amount: 100}
deployment:
  app: {here: {profile: small, count: 1}}
  web: {here: {profile: kept, count: 1}}
"""


def host_of(yard: Yard, service: str) -> dict[str, Any]:
    found = yard.inspect(service=service)["HostConfig"]
    assert isinstance(found, dict)
    return found


def test_file__becomes_containers__with_exactly_its_limits(yard: Yard) -> None:
    text = FILE.replace("IMAGE", yard.image.replace("@", ":1@")).replace("SERVES", SERVES)
    (made,) = read(text.encode())
    images = {each.name: yard.runner.resolve(each.image) for each in made.spec.services}
    lease = lease_of("lease-1", made.spec, images=images, devices={}, outbound=True)
    yard.runner.prepare(lease)
    yard.runner.start("lease-1")
    app, web = host_of(yard, "app"), host_of(yard, "web")
    assert (app["NanoCpus"], app["Memory"]) == (250_000_000, 40 << 20)
    assert (web["NanoCpus"], web["Memory"]) == (100_000_000, 32 << 20)
    assert yard.say("echo $GREETING") == "hello you"
    assert "No space left" in yard.say("dd if=/dev/zero of=/data/full bs=1M 2>&1", service="web")
    assert 6 << 20 <= int(yard.say("wc -c </data/full", service="web")) <= 9 << 20
    # A port is reached by services under its outer number, and by the agent under its own.
    assert soon(lambda: reached(yard, ("web", 8443), ("web", 8080)) >= {("web", 8443)})
    assert yard.runner.address("lease-1", "web", Port(8080))[1] == 8080
    yard.runner.start("lease-1")
    assert soon(lambda: reached(yard, ("web", 8443)) == {("web", 8443)})


def test_file__all_that_it_can_say__one_to_one() -> None:
    (made,) = read(FULL.encode())
    pinned = "name@sha256:" + "0" * 64
    gpus = {
        each.name: tuple(
            Device("cuda", number, "GPU", f"GPU-{number}", 1 << 36)
            for number in range(each.resources.gpus * each.count)
        )
        for each in made.spec.services
    }
    images = {each.name: pinned for each in made.spec.services}
    lease = lease_of("lease-1", made.spec, images=images, devices=gpus, outbound=True)
    for asked in made.spec.services:
        service, given = lease.service(asked.name), asked.resources
        assert (service.cpu, service.memory) == (given.cpu_millis, given.memory_bytes)
        assert (service.storage, service.shm) == (given.root_bytes, given.shm_bytes)
        assert (service.command, service.args) == (asked.command, asked.args)
        assert dict(service.env) == dict(asked.env)
        assert service.count == asked.count and service.after == asked.after
        assert [(v.name, v.mount, v.size, v.read_only) for v in service.volumes] == [
            (v.name, v.mount, v.bytes, v.read_only) for v in given.volumes
        ]
        assert [(p.number, p.protocol) for p in service.ports] == [
            (p.port, p.protocol) for p in asked.ports
        ]
    if any(gpus.values()):
        with pytest.raises(Refused, match="GPUs"):
            lease_of("lease-1", made.spec, images=images, devices={}, outbound=True)


@settings(max_examples=200, deadline=None)
@given(documents())
def test_every_specification_that_is_read__can_be_run(document: Any) -> None:
    try:
        spec = leasespec.parse(json.dumps(document).encode())
    except SpecError:
        return
    devices = {
        each.name: (Device("cuda", 0, "GPU", "GPU-0", 1 << 36),) * each.resources.gpus * each.count
        for each in spec.services
    }
    images = {each.name: "name@sha256:" + "0" * 64 for each in spec.services}
    lease_of("a-1", spec, images=images, devices=devices, outbound=True)


def test_longest_text__as_long_for_the_runner_as_for_the_specification() -> None:
    (made,) = read(FILE.replace("IMAGE", "name").replace("SERVES", "true").encode())
    text = "\U0001f600" * 25_000
    app = replace(made.spec.services[0], args=(text,), env={"A": text})
    spec = leasespec.checked(replace(made.spec, services=(app, made.spec.services[1])))
    images = {each.name: "name@sha256:" + "0" * 64 for each in spec.services}
    assert lease_of("a-1", spec, images=images, devices={}, outbound=True).services
    with pytest.raises(SpecError):
        longer = replace(app, args=(text + "x",))
        leasespec.checked(replace(spec, services=(longer, spec.services[1])))


def test_internet__as_the_file_asks_and_never_more() -> None:
    (made,) = read(FILE.replace("IMAGE", "name").replace("SERVES", "true").encode())
    images = {each.name: "name@sha256:" + "0" * 64 for each in made.spec.services}

    def reaches(asked: bool, offered: bool) -> bool:
        spec = replace(made.spec, outbound=asked)
        return lease_of("a-1", spec, images=images, devices={}, outbound=offered).outbound

    assert reaches(True, True) and not reaches(False, True) and not reaches(False, False)
    with fails_as(Code.NETWORK_NOT_OFFERED):
        reaches(True, False)


def test_order__what_is_needed_first__is_started_first() -> None:
    pinned = "name@sha256:" + "0" * 64

    def service(name: str, *after: str) -> Service:
        return Service(name, pinned, cpu=100, memory=1 << 20, storage=1 << 20, after=after)

    lease = Lease("id", (service("a", "b", "c"), service("b", "c"), service("c", "elsewhere")))
    assert [one.name for one, _ in lease.parts] == ["c", "b", "a"]
    with pytest.raises(Refused, match="after itself"):
        Lease("id", (service("a", "b"), service("b", "a")))
