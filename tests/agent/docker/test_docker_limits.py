# SPDX-License-Identifier: Apache-2.0
"""A container has exactly what its service names: as the engine shows it, and as it is inside."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provider_agent.devices import Device, gpus
from provider_agent.errors import RunnerError
from provider_agent.runners import disk, linux
from provider_agent.runners.base import MIB
from provider_agent.runners.docker.container import CAPABILITIES, gpu_requests
from provider_agent.runners.docker.images import Image, Images
from provider_agent.runners.lease import Lease, Port, Status, Volume
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from tests.agent.docker.conftest import Yard
from tests.agent.docker.daemon import busybox
from tests.support import runs
from tools.images import Registry, shell_layer


def host_of(yard: Yard) -> dict[str, Any]:
    found = yard.inspect()["HostConfig"]
    assert isinstance(found, dict)
    return found


def cgroup(yard: Yard, newer: str, older: str) -> str:
    return yard.say(f"cat /sys/fs/cgroup/{newer} 2>/dev/null || cat /sys/fs/cgroup/{older}")


def test_limits__as_inspected__those_of_the_service(yard: Yard) -> None:
    yard.run(yard.service(cpu=750, memory=80 * MIB, pids=33, shm=4 * MIB))
    host = host_of(yard)
    assert host["NanoCpus"] == 750_000_000
    assert host["Memory"] == host["MemorySwap"] == 80 * MIB
    assert host["PidsLimit"] == 33
    assert host["ShmSize"] == 4 * MIB
    assert host["Privileged"] is False
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert {name.removeprefix("CAP_") for name in host["CapAdd"]} == set(CAPABILITIES)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["RestartPolicy"]["Name"] == "no"
    assert not host["Binds"] and not host["Devices"] and not host["PortBindings"]
    assert host["NetworkMode"] not in ("host", "bridge", "default")
    assert host["PidMode"] == host["UsernsMode"] == host["UTSMode"] == ""
    mounts = yard.inspect()["Mounts"]
    assert isinstance(mounts, list) and mounts
    assert all(Path(mount["Source"]).is_relative_to(yard.data) for mount in mounts)
    assert {mount["Type"] for mount in mounts} == {"bind"}


def test_limits__as_the_kernel_has_them__those_of_the_service(yard: Yard) -> None:
    yard.run(yard.service(cpu=750, memory=80 * MIB, pids=33, shm=4 * MIB))
    assert cgroup(yard, "memory.max", "memory/memory.limit_in_bytes") == str(80 * MIB)
    assert cgroup(yard, "pids.max", "pids/pids.max") == "33"
    assert cgroup(yard, "cpu.max", "cpu/cpu.cfs_quota_us").split()[0] == "75000"
    swap = cgroup(yard, "memory.swap.max", "memory/memory.memsw.limit_in_bytes")
    assert swap in ("0", str(80 * MIB))
    assert yard.say("df -k /dev/shm | awk 'NR==2 {print $2}'") == str(4 * 1024)
    limits = yard.say("cat /proc/self/limits")
    assert re.search(r"core file size +0 +0", limits)


def test_powers__inside__no_more_than_named(yard: Yard) -> None:
    yard.run()
    status = dict(
        line.split(":", 1) for line in yard.say("cat /proc/self/status").splitlines() if ":" in line
    )
    numbers = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7}
    mask = sum(1 << number for number in (*numbers.values(), 10))
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[name], 16) == mask, name
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"


BEYOND = (
    "mount -t tmpfs none /mnt",
    "mknod /tmp/sda b 8 0",
    "ping -c 1 127.0.0.1",
    "hostname other",
    "ip link set eth0 down",
    "echo 1 >/proc/sys/vm/drop_caches",
    "echo x >/proc/sysrq-trigger",
    "echo 999 >/sys/fs/cgroup/pids/pids.max",
    "mkdir /elsewhere",
    "echo x >/etc/hosts",
    "echo x >/etc/resolv.conf",
    "test -e /run/docker.sock || test -e /var/run/docker.sock",
)


def test_powers__what_reaches_beyond_the_container__fails(yard: Yard) -> None:
    yard.run()
    for script in BEYOND:
        assert yard.say(f"({script}) >/dev/null 2>&1 && echo done || echo failed") == "failed", (
            script
        )


def test_devices__no_disk_and_no_memory_of_the_machine(yard: Yard) -> None:
    yard.run()
    found = set(yard.say("ls /dev").split())
    assert found <= {
        *("core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr"),
        *("stdin", "stdout", "tty", "urandom", "zero", "console"),
    }


def test_disk__filled__ends_at_its_size_and_the_machine_keeps_its_own(yard: Yard) -> None:
    yard.run(yard.service(storage=16 * MIB))
    said = yard.say("dd if=/dev/zero of=/var/full bs=1M 2>&1; wc -c </var/full")
    assert "No space left" in said
    assert 16 * MIB <= int(said.splitlines()[-1]) <= 20 * MIB
    # Other places of the container are on the same file system.
    assert "No space left" in yard.say("dd if=/dev/zero of=/tmp/more bs=1M count=2 2>&1")
    assert yard.say("rm /var/full; echo ok >/root/note; cat /root/note") == "ok"


def test_disk__taken_when_it_is_promised(yard: Yard) -> None:
    service = yard.service(storage=16 * MIB, volumes=(Volume("data", "/data", 8 * MIB),))
    lease = yard.run(service)
    images = list(yard.data.glob(f"leases/lease-1/*/*/{disk.IMAGE_FILE}"))
    held = sum(path.stat().st_blocks * 512 for path in images)
    assert len(images) == 2
    assert held >= 24 * MIB
    assert held <= yard.runner.needs(lease).disk


def test_disk__that_the_machine_does_not_have__refused_and_nothing_left(yard: Yard) -> None:
    lease = Lease("lease-1", (yard.service(storage=1 << 50),))
    with pytest.raises(RunnerError, match="there are no"):
        yard.runner.prepare(lease)
    yard.runner.remove("lease-1")
    assert yard.runner.list() == ()


def test_files__many_small__end_at_a_number(yard: Yard) -> None:
    yard.run(yard.service(storage=4 * MIB))
    script = (
        "i=0; while touch /tmp/$i 2>/dev/null && test $i -lt 9000; do i=$((i+1)); done; echo $i"
    )
    assert int(yard.say(script)) < 6000


def test_files__of_an_engine_that_hides_its_layers__few_places_and_a_bound(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Images.find

    def find(self: Images, pinned: str) -> Image | None:
        found = real(self, pinned)
        return None if found is None else replace(found, layers=())

    monkeypatch.setattr(Images, "find", find)
    yard.run(yard.service(volumes=(Volume("data", "/data", 4 * MIB),)))
    for place in ("/tmp", "/var/tmp", "/run", "/data"):
        assert yard.say(f"echo x >{place}/note && cat {place}/note") == "x", place
    for place in ("/etc", "/root", "/bin", "/"):
        assert "Read-only" in yard.say(f"touch {place}/note 2>&1"), place
    assert "No space left" in yard.say("dd if=/dev/zero of=/var/tmp/full bs=1M 2>&1")


def images_of(yard: Yard) -> list[Path]:
    return sorted(yard.data.glob(f"leases/lease-1/*/*/{disk.IMAGE_FILE}"))


def test_files__after_a_loss_of_power__put_in_order(yard: Yard) -> None:
    """A copy of the image while it is written to is what a disk holds after that."""
    yard.run()
    yard.say("echo kept >/root/note; sync; for i in $(seq 200); do echo $i >/tmp/$i; done; sync")
    (image,) = images_of(yard)
    torn = image.read_bytes()
    name = yard.runner._names.container("lease-1", "app", 0)
    yard.runner.engine.delete(f"/containers/{name}", force=True)
    unmount_all(yard)
    image.write_bytes(torn)
    yard.runner.start("lease-1")
    assert yard.say("cat /root/note") == "kept"


def test_files__beyond_repair__said_and_nothing_started(yard: Yard) -> None:
    yard.run()
    (image,) = images_of(yard)
    name = yard.runner._names.container("lease-1", "app", 0)
    yard.runner.engine.delete(f"/containers/{name}", force=True)
    unmount_all(yard)
    with open(image, "r+b") as file:
        file.write(bytes(2 * MIB))
    with pytest.raises(RunnerError, match="damaged"):
        yard.runner.start("lease-1")
    assert not yard.runner.state("lease-1").running


def unmount_all(yard: Yard) -> None:
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        place = Path(line.split()[4])
        if place.is_relative_to(yard.data):
            linux.unmount(place)
    runs.wait_for_no_loops(yard.data)


def test_volume__of_its_own_size__outlives_the_container(yard: Yard) -> None:
    service = yard.service(volumes=(Volume("data", "/data", 8 * MIB),))
    yard.run(service)
    assert "No space left" in yard.say("dd if=/dev/zero of=/data/full bs=1M 2>&1")
    assert yard.say("rm /data/full; echo kept >/data/note; echo lost >/dev/shm/x; sync; echo") == ""
    yard.runner.stop("lease-1")
    yard.runner.start("lease-1")
    assert yard.say("cat /data/note") == "kept"


def test_volume__given_to_the_user_of_a_service(yard: Yard) -> None:
    yard.run(yard.service(volumes=(Volume("data", "/data", 8 * MIB),)))
    assert yard.say("chown nobody /data && stat -c %U /data") == "nobody"


def test_volume__read_only__cannot_be_written(yard: Yard) -> None:
    yard.run(yard.service(volumes=(Volume("data", "/data", 8 * MIB, read_only=True),)))
    assert "Read-only" in yard.say("touch /data/x 2>&1")


def test_image__its_files_are_there__and_can_be_changed(yard: Yard) -> None:
    yard.run()
    assert yard.say(
        "grep -c nobody /etc/passwd; echo new >>/etc/passwd; grep -c new /etc/passwd"
    ) == ("1\n1")


def test_image__declares_volumes__they_have_a_bound(yard: Yard, registry: Registry) -> None:
    image = registry.add("volumes:1", shell_layer(busybox()), Volumes={"/var/lib/db": {}})
    yard.run(yard.service(image=image, storage=8 * MIB))
    assert "No space left" in yard.say("dd if=/dev/zero of=/var/lib/db/full bs=1M 2>&1")
    assert yard.runner.engine.get("/volumes")["Volumes"] in (None, [])


def test_memory__more_than_bought__killed_and_shown_as_such(yard: Yard) -> None:
    yard.run(yard.service(script="sleep 1; tail /dev/zero", memory=32 * MIB))
    found = wait_until_down(yard)
    # The engine hears of the end and of its reason one by one, in either order.
    end = time.monotonic() + 15
    while found is Status.EXITED and time.monotonic() < end:
        time.sleep(0.1)
        found = wait_until_down(yard)
    assert found is Status.OOM


def test_fork_bomb__ends_at_its_number_and_the_machine_goes_on(yard: Yard) -> None:
    yard.run(yard.service(pids=24))
    yard.say("b() { b | b & }; (b) 2>/dev/null; sleep 1; echo")
    assert int(cgroup(yard, "pids.current", "pids/pids.current") or "24") <= 24
    yard.runner.stop("lease-1")


def test_log__without_end__keeps_a_bound(yard: Yard) -> None:
    yard.run(yard.service(script="yes 'a line of some length that is printed without end'"))
    time.sleep(2)  # it prints megabytes meanwhile
    facts = yard.inspect()
    place = Path(str(facts["LogPath"])).parent
    written = sum(path.stat().st_size for path in place.glob("*-json.log*"))
    assert written <= 3 * 64 * 1024
    assert any(b"a line" in piece for _, piece in yard.runner.logs("lease-1", "app", tail=5))


def test_engine__a_health_check_of_the_image__is_not_run(yard: Yard, registry: Registry) -> None:
    test = {"Test": ["CMD-SHELL", "echo x >>/tmp/ran"], "Interval": 1_000_000}
    image = registry.add("healthy:1", shell_layer(busybox()), Healthcheck=test)
    yard.run(yard.service(image=image))
    time.sleep(0.5)
    assert "Health" not in dict(yard.inspect()["State"])  # type: ignore[call-overload]  # JSON
    assert yard.say("test -e /tmp/ran || echo never") == "never"


# ---------------------------------------------------------------------- GPUs


def gpu(number: int) -> Device:
    return Device("cuda", number, "GPU", f"GPU-{number}", 1 << 34)


def test_gpus__requested_by_name__each_container_its_own(yard: Yard) -> None:
    service = yard.service(devices=(gpu(0), gpu(1), gpu(2), gpu(3)), count=2)
    assert [one.uuid for one in service.devices_of(1)] == ["GPU-2", "GPU-3"]
    assert gpu_requests(["GPU-2", "GPU-3"]) == [
        {
            "Driver": "nvidia",
            "DeviceIDs": ["GPU-2", "GPU-3"],
            "Capabilities": [["gpu", "compute", "utility"]],
        }
    ]
    with pytest.raises(Refused, match="equal parts"):
        yard.service(devices=(gpu(0), gpu(1), gpu(2)), count=2)


def test_gpus__none_bought__none_asked_for_by_the_image(yard: Yard, registry: Registry) -> None:
    image = registry.add("greedy:1", shell_layer(busybox()), Env=["NVIDIA_VISIBLE_DEVICES=all"])
    yard.run(yard.service(image=image))
    assert yard.say("echo $NVIDIA_VISIBLE_DEVICES") == "void"
    assert not host_of(yard)["DeviceRequests"]


def test_gpus__on_a_machine_without__named_by_the_engine(yard: Yard) -> None:
    yard.runner.prepare(Lease("lease-1", (yard.service(devices=(gpu(0),)),)))
    with pytest.raises(RunnerError, match="does not start"):
        yard.runner.start("lease-1")
    assert not yard.runner.state("lease-1").running


@pytest.mark.gpu
def test_gpus__of_this_machine__the_one_that_was_bought_and_no_other(yard: Yard) -> None:
    found = gpus()
    if not found or shutil.which("nvidia-container-runtime-hook") is None:
        pytest.skip("no NVIDIA GPU with its container toolkit")
    yard.run(yard.service(devices=(found[0],)))
    assert yard.say("ls /dev | grep -c '^nvidia[0-9]'") == "1"
    assert yard.say("echo $NVIDIA_VISIBLE_DEVICES") == found[0].uuid


# ---------------------------------------------------------------------- what tenants write


@pytest.mark.parametrize(
    "more",
    [
        {"name": "UPPER"},
        {"name": "a" * 64},
        {"name": "../x"},
        {"name": ""},
        {"image": "alpine:latest"},
        {"image": "sha256:" + "0" * 64},
        {"cpu": 0},
        {"cpu": 5},
        {"memory": -1},
        {"count": 0},
        {"env": {"A=B": "c"}},
        {"env": {"A": "b\0"}},
        {"env": {"": "b"}},
        {"env": {"NVIDIA_VISIBLE_DEVICES": "all"}},
        {"env": {"A": "x" * 200_000}},
        {"args": ("x\0",)},
        {"args": ("x" * 90_000,) * 20},
        {"ports": (Port(0),)},
        {"ports": (Port(70_000),)},
        {"ports": (Port(80, "sctp"),)},
        {"volumes": (Volume("a", "/proc", MIB),)},
        {"volumes": (Volume("a", "/", MIB),)},
        {"volumes": (Volume("a", "/x/../../etc", MIB),)},
        {"volumes": (Volume("a", "/x:ro", MIB),)},
        {"volumes": (Volume("../a", "/x", MIB),)},
        {"volumes": (Volume("a", "/x", MIB), Volume("a", "/y", MIB))},
        {"volumes": (Volume("a", "/x", MIB), Volume("b", "/x", MIB))},
        {"volumes": (Volume("a", "/x", 1),)},
    ],
)
def test_service__that_cannot_be_contained__refused_by_name(more: dict[str, Any]) -> None:
    pinned = "shell@sha256:" + "0" * 64
    with pytest.raises(Refused) as refused:
        Yard.service(Yard(None, None, Path(), pinned), **more)  # type: ignore[arg-type]  # no engine
    assert refused.value.code is Code.LEASE_UNFIT
    assert len(str(refused.value)) < 1000


def test_words__odd_but_honest__arrive_as_they_are(yard: Yard) -> None:
    odd = {"A_B": "x y 'z' \"q\" $HOME `id` \n two \t ü 漢 ; rm -rf /"}
    yard.run(yard.service(env=odd))
    shown = yard.say("env")
    assert "rm -rf /" in shown and "ü 漢" in shown


# ---------------------------------------------------------------------- helpers


def wait_until_down(yard: Yard, seconds: float = 30) -> Status:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        down = yard.runner.state("lease-1").down
        if down:
            return down[0].status
        time.sleep(0.1)
    raise AssertionError("the container still runs")
