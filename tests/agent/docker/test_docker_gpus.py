# SPDX-License-Identifier: Apache-2.0
"""Which GPUs a container is given. A real engine with a hook in NVIDIA's place: see `toolkit`.

That the device files of real GPUs are there and work is tried where GPUs are (`gpu`, in
`test_docker_limits`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB
from provider_agent.runners.docker.engine import Engine
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.lease import Lease, Status
from tests.agent.docker import daemon as daemons
from tests.agent.docker.conftest import Yard
from tests.agent.docker.test_docker_life import containers, wait_for
from tests.agent.docker.toolkit import Toolkit
from tools.engine import TOOLS, Daemon
from tools.images import Registry, shell_layer


@pytest.fixture(scope="module")
def toolkit() -> Iterator[Toolkit]:
    place = Path(tempfile.mkdtemp(prefix="tp-gpu-"))
    made = Toolkit(place / "toolkit")
    made.install()
    yield made
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def machine(toolkit: Toolkit) -> Iterator[Daemon]:
    """An engine of its own that has found the hook."""
    reason = daemons.cannot_run()
    if reason:
        pytest.skip(reason)
    place = Path(tempfile.mkdtemp(prefix="tp-"))
    made = Daemon(place, daemons.Namespace(), path=f"{toolkit.path}:{TOOLS}")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def images(machine: Daemon) -> Iterator[Registry]:
    with machine.namespace.entered():
        made = Registry()
    yield made
    made.close()


@pytest.fixture
def yard(machine: Daemon, toolkit: Toolkit, images: Registry, tmp_path: Path) -> Iterator[Yard]:
    """A lease runner on that engine, with a shell's image that asks for all GPUs."""
    image = images.add(
        "greedy:1",
        shell_layer(daemons.busybox()),
        Env=["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"],
    )
    toolkit.lose()
    toolkit.calls()
    with machine.namespace.entered():
        runner = DockerRunner(
            tmp_path / "agent", f"agent of {tmp_path.name}", socket=machine.socket, reserve=MIB
        )
        yield Yard(runner, machine, tmp_path / "agent", image)
        for lease_id in runner.list():
            runner.remove(lease_id)


def gpu(uuid: str) -> Device:
    return Device("cuda", 0, "GPU", uuid, 1 << 30)


CARDS = [gpu(f"GPU-{number:08d}-aaaa-bbbb-cccc-0123456789ab") for number in range(4)]
PART = gpu("MIG-5f1e0f70-aaaa-bbbb-cccc-0123456789ab")
"""An instance of a GPU in MIG mode: NVML gives it a name of its own, and the toolkit takes it."""


def inside(yard: Yard, number: int = 0) -> set[str]:
    """The GPUs that a container has."""
    words = ("/bin/sh", "-c", "ls /dev")
    shell = yard.runner.exec("lease-1", "app", words, number, tty=False)
    said = b""
    while piece := shell.read()[1]:
        said += piece
    shell.close()
    names = (word for word in said.decode().split() if word.startswith("nvidia-"))
    return {name.removeprefix("nvidia-") for name in names}


def test_gpus__of_the_service__are_there_and_no_others(yard: Yard, toolkit: Toolkit) -> None:
    yard.run(yard.service(devices=tuple(CARDS[1:3])))
    wanted = (CARDS[1].uuid, CARDS[2].uuid)
    ((name, given, capabilities),) = toolkit.calls()
    assert name == yard.inspect()["Id"]
    assert given == wanted and inside(yard) == set(wanted)
    assert capabilities == {"compute", "utility"}
    assert yard.say("echo $NVIDIA_VISIBLE_DEVICES") == ",".join(wanted)


def test_gpus__of_two_containers__each_has_its_own(yard: Yard, toolkit: Toolkit) -> None:
    yard.run(yard.service(devices=tuple(CARDS), count=2))
    assert sorted(given for _, given, _ in toolkit.calls()) == [
        (CARDS[0].uuid, CARDS[1].uuid),
        (CARDS[2].uuid, CARDS[3].uuid),
    ]
    assert [inside(yard, number) for number in (0, 1)] == [
        {CARDS[0].uuid, CARDS[1].uuid},
        {CARDS[2].uuid, CARDS[3].uuid},
    ]


def test_gpus__an_instance_of_a_divided_card__is_the_one(yard: Yard, toolkit: Toolkit) -> None:
    yard.run(yard.service(devices=(PART,)))
    assert [given for _, given, _ in toolkit.calls()] == [(PART.uuid,)]
    assert inside(yard) == {PART.uuid}


def test_gpus__none_bought__the_hook_is_not_even_called(yard: Yard, toolkit: Toolkit) -> None:
    yard.run()
    assert toolkit.calls() == []
    assert inside(yard) == set()


def test_gpus__after_a_death_and_a_container_made_again__are_the_same(
    yard: Yard, toolkit: Toolkit
) -> None:
    script = "test -e /root/once && sleep 600; touch /root/once; exit 3"
    yard.run(yard.service(script=script, devices=(CARDS[3],)))
    wait_for(yard, Status.EXITED)
    assert yard.runner.keep(["lease-1"])["lease-1"].running
    (container,) = containers(yard)
    yard.runner.engine.delete(f"/containers/{container}", force=True)
    assert yard.runner.keep(["lease-1"])["lease-1"].running
    assert [given for _, given, _ in toolkit.calls()] == [(CARDS[3].uuid,)] * 3
    assert inside(yard) == {CARDS[3].uuid}


def test_gpu__that_is_lost__the_container_does_not_run_without_it(
    yard: Yard, toolkit: Toolkit
) -> None:
    toolkit.lose(CARDS[0].uuid)
    yard.runner.prepare(Lease("lease-1", (yard.service(devices=(CARDS[0],)),)))
    with pytest.raises(RunnerError, match="does not start"):
        yard.runner.start("lease-1")
    assert not yard.runner.keep(["lease-1"])["lease-1"].running
    toolkit.lose()
    yard.runner.start("lease-1")
    assert inside(yard) == {CARDS[0].uuid}


def test_engine__says_which_gpus__as_they_were_asked_for(yard: Yard, toolkit: Toolkit) -> None:
    yard.run(yard.service(devices=(CARDS[0],)))
    found = Engine(yard.daemon.socket).get(f"/containers/{containers(yard)[0]}/json")
    (asked,) = found["HostConfig"]["DeviceRequests"]
    assert asked["DeviceIDs"] == [CARDS[0].uuid] and not asked["Count"]
    assert found["HostConfig"]["Runtime"] == "runc"
