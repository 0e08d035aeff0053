# SPDX-License-Identifier: Apache-2.0
"""Whether this engine contains a lease: a small one is made, and tries to get out.

Its image is made of this machine's own shell, so nothing is fetched. Limits are read back from
inside, where the kernel says them, not from the engine's words.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, MutableMapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB
from provider_agent.runners.docker import knock
from provider_agent.runners.docker.container import CAPABILITIES
from provider_agent.runners.docker.engine import Engine, EngineRefused, labelled, named
from provider_agent.runners.docker.labels import LEASE
from provider_agent.runners.lease import Lease, LeaseRunner, Service

SERVICE = "check"
_TOOLS_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS = ("sh", "cat", "sleep")
_MEMORY, _STORAGE, _PIDS, _CPU = 64 * MIB, 8 * MIB, 32, 250
_ROUTES = Path("/proc/net/route")
_NUMBERS = {  # of linux/capability.h
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "NET_BIND_SERVICE": 10,
}
_NEEDED = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap",
    "PidsLimit": "processes",
    "CpuCfsQuota": "processors",
}


def run(runner: LeaseRunner, engine: Engine, own: MutableMapping[str, str], pool: str) -> str:
    """One line that says what contains leases here. Raises RunnerError with what to do.

    `own` takes the id of the image that is made for the trial; `pool` are the addresses of leases.
    """
    facts = engine.get("/info")
    _check_engine(facts)
    _check_pool(IPv4Network(pool))
    packed = pack()
    pinned = f"teraproof-check@sha256:{hashlib.sha256(packed).hexdigest()}"
    own[pinned] = load(engine, packed)
    service = Service(
        SERVICE,
        pinned,
        cpu=_CPU,
        memory=_MEMORY,
        storage=_STORAGE,
        pids=_PIDS,
        command=("/bin/sleep", "600"),
    )
    lease_id = f"check-{os.getpid()}"
    try:
        for left in runner.list():  # of a check that was killed
            runner.remove(left)
        try:
            runner.prepare(Lease(lease_id, (service,)))
        except EngineRefused as refused:
            raise RunnerError(
                f"{refused}; the engine has to see what the agent mounts: run both on one machine, "
                "the agent without PrivateMounts, PrivateTmp or ProtectSystem of systemd"
            ) from None
        runner.start(lease_id)
        for look in (_limits, _powers, _files):
            look(lambda *command: _said(runner, lease_id, *command))
        _network(engine, lease_id)
    finally:
        runner.remove(lease_id)
        engine.delete(f"/images/{named(own.pop(pinned))}", force=True)
    apart = any(str(option).startswith("name=userns") for option in facts["SecurityOptions"])
    return (
        f"Docker Engine {facts['ServerVersion']}: cgroup v{facts.get('CgroupVersion', '1')}, files "
        f"on file systems of fixed size over {facts['Driver']}, walls tried; root in a container "
        "is "
        f"{'nobody' if apart else 'root with few powers'} here"
    )


def pack() -> bytes:
    """A tar archive with a few programs of this machine and the libraries that they need."""
    found: dict[str, Path] = {}
    for name in _PROGRAMS:
        program = shutil.which(name, path=_TOOLS_PATH)
        if program is None:
            raise RunnerError(f"{name} is missing in {_TOOLS_PATH}; the check needs it")
        found[f"bin/{name}"] = Path(program).resolve()
        for library in _libraries(program):
            found[library.lstrip("/")] = Path(library).resolve()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for directory in ("tmp", "etc"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(entry)
        for name, path in sorted(found.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o755
            with open(path, "rb") as file:
                archive.addfile(entry, file)
    return packed.getvalue()


def load(engine: Engine, packed: bytes) -> str:
    """Makes an image of a tar archive; its id."""
    query = {"fromSrc": "-", "message": "made by a provider agent"}
    with engine.stream("POST", "/images/create", query, packed, seconds=120.0) as stream:
        said = [str(line.get("status", "")) for line in stream.lines()]
    if not said or not re.fullmatch(r"sha256:[0-9a-f]{64}", said[-1]):
        raise RunnerError("the container engine makes no image of an archive")
    return said[-1]


def _libraries(program: str) -> list[str]:
    """What the loader of this machine maps for a program, the loader itself too."""
    done = subprocess.run(
        ["ldd", program],
        env={"PATH": _TOOLS_PATH, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return re.findall(r"(/\S+) \(0x", done.stdout)  # none for a static program


def _check_engine(facts: Mapping[str, Any]) -> None:
    lacking = [what for name, what in _NEEDED.items() if not facts.get(name)]
    options = [str(option) for option in facts["SecurityOptions"]]
    if any(option.startswith("name=rootless") for option in options):
        raise RunnerError(
            "Docker runs rootless here, where the walls cannot stand; use the engine of root"
        )
    if lacking:
        raise RunnerError(
            f"the engine cannot limit {', '.join(lacking)}; boot with cgroup v2, or with "
            "cgroup_enable=memory swapaccount=1"
        )
    if not any(option.startswith("name=seccomp") for option in options):
        raise RunnerError("the engine has no seccomp, its filter of system calls; enable it")
    if not facts.get("IPv4Forwarding"):
        raise RunnerError("packets are not forwarded; set net.ipv4.ip_forward to 1")


def _check_pool(pool: IPv4Network) -> None:
    """The addresses of leases must lead nowhere else."""
    try:
        lines = _ROUTES.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        name, target, *rest = line.split()
        place = IPv4Address(int(target, 16).to_bytes(4, "little"))
        mask = IPv4Address(int(rest[5], 16).to_bytes(4, "little"))
        route = IPv4Network((int(place), f"{mask}"), strict=False)
        if route.prefixlen and route.overlaps(pool) and not name.startswith("tp"):
            raise RunnerError(
                f"{pool} is for leases, but {route} leads to {name}; give leases another range"
            )


# -------------------------------------------------------------------- from inside

_Say = Callable[..., str]


def _said(runner: LeaseRunner, lease_id: str, *command: str) -> str:
    """What a command in the container prints, its errors too."""
    shell = runner.exec(lease_id, SERVICE, command, tty=False)
    try:
        said = b""
        while (piece := shell.read()[1]) and len(said) < MIB:
            said += piece
    finally:
        shell.close()
    return said.decode(errors="replace")


def _limits(say: _Say) -> None:
    newer, older = "/sys/fs/cgroup", "/sys/fs/cgroup"
    names = {
        "memory": (f"{newer}/memory.max", f"{older}/memory/memory.limit_in_bytes", str(_MEMORY)),
        "processes": (f"{newer}/pids.max", f"{older}/pids/pids.max", str(_PIDS)),
        "processors": (f"{newer}/cpu.max", f"{older}/cpu/cpu.cfs_quota_us", str(_CPU * 100)),
    }
    for what, (new, old, wanted) in names.items():
        found = say("/bin/sh", "-c", f"cat {new} 2>/dev/null || cat {old}").split()
        if not found or found[0] != wanted:
            raise RunnerError(
                f"the limit of {what} does not hold: the kernel says {' '.join(found)[:100]!r} "
                f"instead of {wanted}; see the engine's log"
            )


def _powers(say: _Say) -> None:
    lines = dict(
        line.split(":", 1)
        for line in say("/bin/cat", "/proc/self/status").splitlines()
        if ":" in line
    )
    mask = sum(1 << _NUMBERS[name] for name in CAPABILITIES)
    wanted = {"NoNewPrivs": 1, "Seccomp": 2, "CapEff": mask, "CapBnd": mask}
    for name, value in wanted.items():
        found = int(lines.get(name, "0").strip(), 16)
        if found != value:
            raise RunnerError(
                f"{name} is {found:x} in a container instead of {value:x}; the engine "
                "does not take powers away as it is asked to"
            )


def _files(say: _Say) -> None:
    code = "cat /dev/zero >/tmp/full 2>/dev/null && echo endless; : >/etc/hosts && echo written"
    said = say("/bin/sh", "-c", code)
    if "endless" in said.split():
        raise RunnerError("a container writes without end; its files are not on their file system")
    if "written" in said.split():
        raise RunnerError("a container writes to the engine's own files")


def _network(engine: Engine, lease_id: str) -> None:
    """A port of this machine is open to this machine, and not to the container."""
    found = engine.get("/containers/json", filters=labelled([f"{LEASE}={lease_id}"]))
    facts = engine.get(f"/containers/{found[0]['Id']}/json")
    gateway = next(iter(facts["NetworkSettings"]["Networks"].values()))["Gateway"]
    with socket.create_server((gateway, 0)) as listener:
        port = listener.getsockname()[1]
        if not knock.reaches(gateway, port):
            raise RunnerError(f"this machine does not reach its own port at {gateway}")
        done = subprocess.run(
            [
                sys.executable,
                "-I",
                knock.__file__,
                f"/proc/{facts['State']['Pid']}/ns/net",
                gateway,
                str(port),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if done.stdout != "closed":
        why = done.stdout or (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]
        raise RunnerError(
            f"the walls do not hold: a container reaches a port of this machine ({why}); see which "
            "rules stand before ours: iptables -t mangle -S PREROUTING"
        )
