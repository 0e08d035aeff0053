# SPDX-License-Identifier: Apache-2.0
"""A container has exactly what its service names: as the engine shows it, and as it is inside."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from provider_agent.devices import Device, gpus
from provider_agent.errors import RunnerError
from provider_agent.runners import disk
from provider_agent.runners.base import MIB
from provider_agent.runners.docker.container import CAPABILITIES, gpu_requests
from provider_agent.runners.lease import Credentials, Lease, Port, Status, Volume
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from tests.agent.docker.conftest import Yard
from tests.agent.docker.daemon import busybox
from tests.agent.docker.registry import Registry, layer, shell_layer


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


def test_volume__of_its_own_size__outlives_the_container(yard: Yard) -> None:
    service = yard.service(volumes=(Volume("data", "/data", 8 * MIB),))
    yard.run(service)
    assert "No space left" in yard.say("dd if=/dev/zero of=/data/full bs=1M 2>&1")
    assert yard.say("rm /data/full; echo kept >/data/note; echo lost >/dev/shm/x; sync; echo") == ""
    yard.runner.stop("lease-1")
    yard.runner.start("lease-1")
    assert yard.say("cat /data/note") == "kept"


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
    state = wait_until_down(yard)
    assert state is Status.OOM


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


# ---------------------------------------------------------------------- images


def test_resolve__a_tag__the_digest_it_has_now(yard: Yard, registry: Registry) -> None:
    first = registry.add("moving:1", layer({"note": b"one"}))
    assert yard.runner.resolve(f"{registry.host}/moving:1") == first
    second = registry.add("moving:1", layer({"note": b"two"}))
    assert second != first
    assert yard.runner.resolve(f"{registry.host}/moving:1") == second
    assert yard.runner.resolve(first) == first


@pytest.mark.parametrize(
    "name",
    ["", "UPPER/case", "a b", "a@sha256:12", "-x", "a/../b", "x" * 600, "a:b:c", "http://a/b"],
)
def test_resolve__what_is_no_name__refused(yard: Yard, name: str) -> None:
    with pytest.raises(Refused) as refused:
        yard.runner.resolve(name)
    assert refused.value.code is Code.IMAGE_UNFIT


def test_resolve__what_no_registry_has__refused(yard: Yard, registry: Registry) -> None:
    for name in (f"{registry.host}/nobody:1", "127.0.0.1:1/nothing:1"):
        with pytest.raises(Refused) as refused:
            yard.runner.resolve(name)
        assert refused.value.code is Code.IMAGE_UNFIT


def test_credentials__of_the_tenant__fetch_and_are_kept_nowhere(
    yard: Yard, registry: Registry
) -> None:
    closed = Registry("me:s3cret-word")
    image = closed.add("closed:1", shell_layer(busybox()))
    mine = Credentials("me", "s3cret-word", closed.host)
    with pytest.raises(Refused):
        yard.runner.resolve(f"{closed.host}/closed:1")
    assert yard.runner.resolve(f"{closed.host}/closed:1", mine) == image
    lease = Lease("lease-1", (yard.service(image=image),))
    with pytest.raises(Refused):
        yard.runner.prepare(lease)
    yard.runner.prepare(lease, {"app": mine})
    yard.runner.start("lease-1")
    closed.close()
    assert yard.runner.state("lease-1").running
    assert "s3cret-word" not in repr(mine)
    assert "s3cret-word" not in str(yard.inspect())
    for path in yard.data.rglob("*.json"):
        assert "s3cret-word" not in path.read_text()


def test_image__deleted_with_the_last_lease_that_needs_it(yard: Yard, registry: Registry) -> None:
    image = registry.add("passing:1", shell_layer(busybox()), Labels={"only": "here"})
    for lease_id in ("lease-1", "lease-2"):
        yard.run(yard.service(image=image), lease_id=lease_id)
    yard.runner.remove("lease-1")
    assert yard.runner._images.find(image) is not None
    yard.runner.remove("lease-2")
    assert yard.runner._images.find(image) is None


def test_image__larger_than_kept__refused_and_deleted(yard: Yard, registry: Registry) -> None:
    image = registry.add("bomb:1", layer({"zeros": bytes(24 * MIB)}))
    yard.runner._images._most = 8 * MIB
    with pytest.raises(Refused) as refused:
        yard.runner.prepare(Lease("lease-1", (yard.service(image=image),)))
    assert refused.value.code is Code.IMAGE_UNFIT
    assert yard.runner._images.find(image) is None


def test_image__that_never_arrives__refused_in_time(yard: Yard, registry: Registry) -> None:
    image = registry.add("slow:1", layer({"note": b"slow"}))
    yard.runner._images._seconds = 2
    registry.stalls.set()
    try:
        with pytest.raises(Refused) as refused:
            yard.runner.prepare(Lease("lease-1", (yard.service(image=image),)))
    finally:
        registry.stalls.clear()
    assert refused.value.code is Code.IMAGE_UNFIT


@pytest.mark.parametrize("place", ["/proc/x", "/", "/dev/shm", "/a/../../b", "relative", "/sys"])
def test_image__declares_a_volume_over_what_is_not_its_own__refused(
    yard: Yard, registry: Registry, place: str
) -> None:
    image = registry.add("odd:1", layer({"note": place.encode()}), Volumes={place: {}})
    with pytest.raises(Refused):
        yard.runner.prepare(Lease("lease-1", (yard.service(image=image),)))


def test_image__its_directories_are_links_to_the_machine__they_lead_nowhere(
    yard: Yard, registry: Registry
) -> None:
    evil = layer({"opt": "/etc", "srv": "../../../../../etc", "mnt": "/proc/1/root"})
    image = registry.add("links:1", shell_layer(busybox()), evil)
    yard.run(yard.service(image=image, volumes=(Volume("data", "/opt/data", 2 * MIB),)))
    assert yard.say("ls /etc /srv | grep -c shadow") == "0"
    assert yard.say("touch /opt/data/x && ls /etc/data") == "x"
    assert not Path("/etc/data").exists()


def test_image__many_directories_at_the_top__refused(yard: Yard, registry: Registry) -> None:
    many = layer({"note": b""}, tuple(f"d{number}" for number in range(200)))
    image = registry.add("wide:1", many)
    with pytest.raises(Refused):
        yard.runner.prepare(Lease("lease-1", (yard.service(image=image),)))


def test_image__of_many_layers__is_laid_out(yard: Yard, registry: Registry) -> None:
    more = [layer({f"var/{number}": b"x"}) for number in range(40)]
    image = registry.add("deep:1", shell_layer(busybox()), *more)
    yard.run(yard.service(image=image))
    assert yard.say("ls /var | grep -c '^[0-9]'") == "40"
    assert yard.say("rm /var/7; echo changed >/var/8; cat /var/8; ls /var/7 2>&1").startswith(
        "changed"
    )


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
