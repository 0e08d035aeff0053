# SPDX-License-Identifier: Apache-2.0
"""The sandbox: which walls bubblewrap builds around a job.

What a job sees: `/usr` and the loader's files read-only, its runtime read-only, `/job` and `/tmp`
of its own, a fresh `/proc`, the smallest `/dev`, a `/dev/shm` of fixed size, no network, no
variables but those given. It has its own user, pid, network, ipc, uts, mount and cgroup
namespaces, no capabilities, no way to gain any, a system call filter, and a session of its own.

Who it is outside: an ordinary agent's jobs are the agent's user in another user namespace. An
agent that runs as root gives each run a user id of its own, which owns nothing on the host; root's
own id would escape the kernel's limit of processes and own the files it should not touch. Such a
user cannot walk through the private directories that lead to the job's files, so the supervisor
binds them to a staging place in its own mount table first.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from provider_agent.devices import GPU_NODES, Device, missing_nodes
from provider_agent.errors import RunnerError
from provider_agent.runners import linux, seccomp
from provider_agent.runners.base import MIB, RunRequest

# Not from the agent's environment: a surprise in PATH has no place in a sandbox.
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
MISSING = (
    f"bubblewrap is not installed (no bwrap in {SEARCH_PATH.replace(':', ', ')}); "
    "install it (apt-get install bubblewrap)"
)

INSIDE_UID = 65534
_FIRST_RUN_UID = 0x70000000
_STAGING_PLACES = ("/mnt", "/media", "/srv", "/opt")

_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime")
_ETC_NETWORK = ("resolv.conf", "hosts", "nsswitch.conf", "ssl", "ca-certificates", "pki")
_GPU_NODES_TOO = ("/dev/nvidia-uvm-tools",)
# What the driver's library reads of the machine when it starts (cuInit).
_GPU_READS = (
    "/proc/driver/nvidia",
    "/sys/bus/pci",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass
class Launch:
    """A prepared command line and the descriptors that it refers to."""

    argv: list[str]
    fds: list[int] = field(default_factory=list)


def find() -> Path:
    """Where bubblewrap is. Raises RunnerError where it is missing."""
    found = shutil.which("bwrap", path=SEARCH_PATH)
    if found is None:
        raise RunnerError(MISSING)
    return Path(found)


def run_uid(run_id: str) -> int | None:
    """The user id that a root agent gives to a run; None for an ordinary agent.

    One in 2^24, far above the ids of people and services, or `nobody` where the agent's own user
    namespace has no such ids.
    """
    if os.geteuid() != 0:
        return None
    offset = int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:3], "big")
    wanted = _FIRST_RUN_UID + offset
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= wanted < first + count:
            return wanted
    return INSIDE_UID


def environment(run: RunRequest, home: str) -> dict[str, str]:
    """The whole environment of a job; its own variables win, but for the devices."""
    path = SEARCH_PATH if run.runtime is None else f"{run.runtime / 'bin'}:{SEARCH_PATH}"
    cpus = str(run.limits.cpus)
    return {
        "PATH": path,
        "HOME": home,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **dict.fromkeys(_THREADS, cpus),
        **run.env,
        # By UUID, because an index counts only the devices that a job can see.
        "CUDA_VISIBLE_DEVICES": ",".join(d.uuid for d in run.devices if d.kind == "cuda"),
    }


def runtime_binds(runtime: Path) -> list[tuple[Path, Path]]:
    """(real directory, place inside) pairs that make the Python in `runtime` work.

    A virtual environment borrows its interpreter and library from elsewhere: `home` in pyvenv.cfg
    and the target of bin/python name the place. Raises RunnerError where there is no Python.
    """
    python = runtime / "bin" / "python"
    if not python.exists():
        raise RunnerError(f"runtime {runtime} has no bin/python; make a virtual environment there")
    prefixes = {runtime, python.resolve().parent.parent}
    config = runtime / "pyvenv.cfg"
    if config.is_file():
        for line in config.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home" and value.strip():
                prefixes.add(Path(value.strip()).parent)
    link = python
    while link.is_symlink():  # each hop must exist inside, not only the end
        link = link.parent / os.readlink(link)
        prefixes.add(Path(os.path.normpath(link.parent.parent)))
    pairs = [(place.resolve(), place) for place in sorted(prefixes)]
    return [(real, place) for real, place in pairs if not _within(place, Path("/usr"))]


def check_private(shown: Sequence[Path], private: Sequence[Path]) -> None:
    """Raises RunnerError when a directory shown to jobs holds a home, or something `private`.

    `/usr` is always shown, and may hold the nominal homes of system users.
    """
    homes = [Path("/root")]
    with suppress(KeyError):  # a user without an entry has no home
        homes.append(Path(pwd.getpwuid(os.getuid()).pw_dir))
    for place in (*shown, Path("/usr")):
        real = place.resolve()
        for home in homes:
            if place != Path("/usr") and _within(home.resolve(), real):
                raise RunnerError(
                    f"runtime needs {place}, which holds a home directory; "
                    "put the Python of the runtime into a directory of its own"
                )
        for secret in private:
            if _within(secret.resolve(), real):
                raise RunnerError(
                    f"jobs can read {place}, and {secret} lies in it; move one of them"
                )


def build(
    bwrap: Path,
    run: RunRequest,
    *,
    work: Path | None,
    tmp: Path | None,
    in_memory: tuple[int, int | None] | None,
    binds: Sequence[tuple[Path, Path]],
    disable_userns: bool,
    status_fd: int | None = None,
    block_fd: int | None = None,
    sync_fd: int | None = None,
) -> Launch:
    """The command line for a run. The caller closes `fds` after the start.

    `binds` are (directory on the host, place inside) pairs, read-only. Without `work` and `tmp`
    the job gets file systems in memory. `in_memory` has the bytes of each, and maybe a descriptor:
    the sandbox waits for its end, when they are mounted and the job has not begun (see
    `disk.hold`).
    """
    args = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]
    if run.network:
        args.append("--share-net")
    if disable_userns:
        args.append("--disable-userns")
    args += ["--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID), "--hostname", "job"]
    args += ["--cap-drop", "ALL", "--clearenv"]
    for name, value in environment(run, "/tmp").items():
        args += ["--setenv", name, value]

    launch = Launch([])
    args += ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM:
        if os.path.islink(f"/{name}"):
            args += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            args += ["--ro-bind", f"/{name}", f"/{name}"]
    for name in (*_ETC, *(_ETC_NETWORK if run.network else ())):
        args += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    people = f"root:x:0:0::/:/bin/false\njob:x:{INSIDE_UID}:{INSIDE_UID}::/tmp:/bin/sh\n"
    for name, text in (("passwd", people), ("group", f"root:x:0:\njob:x:{INSIDE_UID}:\n")):
        launch.fds.append(_memory_file(text.encode()))
        args += ["--perms", "0444", "--ro-bind-data", str(launch.fds[-1]), f"/etc/{name}"]
    # Before the runtime, which may lie in the host's /tmp.
    for source, place in ((tmp, "/tmp"), (work, "/job")):
        if source is not None:
            args += ["--bind", str(source), place]
        elif in_memory is not None:
            args += ["--perms", "0700", "--size", str(in_memory[0]), "--tmpfs", place]
    if in_memory is not None and in_memory[1] is not None:
        args += ["--perms", "0444", "--file", str(in_memory[1]), "/etc/hostname"]
    args += ["--chdir", "/job"]
    for directory, inside in binds:
        args += ["--ro-bind", str(directory), str(inside)]

    args += ["--proc", "/proc", "--dev", "/dev"]
    shared = max(run.limits.memory_bytes // 4, MIB)
    args += ["--perms", "1777", "--size", str(shared), "--tmpfs", "/dev/shm"]
    args += device_nodes(run.devices)
    # The root and /dev are memory file systems: left writable, they would escape every limit.
    args += ["--remount-ro", "/dev", "--remount-ro", "/"]

    filters = seccomp.program()
    if filters is not None:
        launch.fds.append(_memory_file(filters))
        args += ["--seccomp", str(launch.fds[-1])]
    for option, fd in (
        ("--json-status-fd", status_fd),
        ("--block-fd", block_fd),
        ("--sync-fd", sync_fd),
    ):
        if fd is not None:
            args += [option, str(fd)]
    # In a file, so that the variables of a job do not show in the host's list of processes.
    launch.fds.append(_memory_file(b"".join(arg.encode() + b"\0" for arg in args)))
    launch.argv = [str(bwrap), "--args", str(launch.fds[-1]), "--", *run.command]
    return launch


def device_nodes(devices: Sequence[Device]) -> list[str]:
    """The arguments that show exactly these GPUs, and nothing for a CPU.

    With the device files goes what the driver's library reads when it starts, read-only. Raises
    RunnerError where a device file is missing: CUDA would only say that there is no device.
    """
    shown = [device for device in devices if device.kind == "cuda"]
    if not shown:
        return []
    for device in shown:
        missing = missing_nodes(device)
        if missing:
            raise RunnerError(
                f"{missing[0]} is missing, so no job can use {device.name}; load the driver's "
                "modules (nvidia-modprobe -c 0 -u)"
            )
    nodes = [*(device.node for device in shown), *(cap for device in shown for cap in device.caps)]
    args = []
    for node in (*dict.fromkeys(nodes), *GPU_NODES):
        args += ["--dev-bind", node, node]
    for node in _GPU_NODES_TOO:
        args += ["--dev-bind-try", node, node]
    modules = sorted(str(path) for path in Path("/sys/module").glob("nvidia*"))
    places = [*_GPU_READS, *modules]
    for device in shown:
        if device.bus:
            entry = Path("/sys/bus/pci/devices") / device.bus
            places.append(str(entry.resolve()))
    for place in dict.fromkeys(places):
        args += ["--ro-bind-try", place, place]
    return args


def stage(paths: Sequence[Path], away_from: Path) -> list[Path]:
    """Shows each directory at a place that any user can reach, in this process's mounts alone.

    For an agent that runs as root, after `linux.private_mounts`; needs CAP_SYS_ADMIN. Returns the
    places in the same order. Hides a directory such as /mnt from this process for good, one that
    `away_from` is not in.
    """
    staging = next(
        Path(place)
        for place in _STAGING_PLACES
        if os.path.isdir(place) and not _within(away_from, Path(place))
    )
    # Opened before the staging place is covered: some of them may lie under it.
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in paths]
    linux.mount_tmpfs(staging, "mode=755,size=64k")
    places = []
    for number, fd in enumerate(fds):
        place = staging / str(number)
        place.mkdir()
        linux.mount_bind(fd, place)
        os.close(fd)
        places.append(place)
    return places


def _within(path: Path, directory: Path) -> bool:
    return path == directory or directory in path.parents


def _memory_file(data: bytes) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        return os.dup(file.fileno())


def which(program: str, path: str) -> str | None:
    """The file that a program's name means in a search path; a path with a slash is itself."""
    return program if "/" in program else shutil.which(program, path=path)


def can_disable_userns(bwrap: Path) -> bool:
    """Whether this bubblewrap can forbid user namespaces inside (0.8 and later can).

    The system call filter forbids them too, where there is one for the machine.
    """
    said = subprocess.run([str(bwrap), "--help"], capture_output=True, text=True, check=False)
    return "--disable-userns" in said.stdout + said.stderr
