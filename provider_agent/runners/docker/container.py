# SPDX-License-Identifier: Apache-2.0
"""A service's container as the engine is asked for it, and whether it is what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.docker.images import Image
from provider_agent.runners.docker.labels import NUMBER, SERVICE, SPEC
from provider_agent.runners.lease import Lease, Service
from provider_agent.runners.lease_json import digest

LOG_FILES = 2
STOP_SECONDS = 10

CAPABILITIES = {
    "CHOWN": "packages and entry points hand files to the user of a service",
    "DAC_OVERRIDE": "root reads and writes files of such users",
    "FOWNER": "root changes the modes of such files",
    "KILL": "the first process ends those of another user",
    "NET_BIND_SERVICE": "services listen below port 1024",
    "SETGID": "entry points give up being root",
    "SETUID": "entry points give up being root",
}
"""What is left of root's powers in a container, each with its reason. Not left, of those that
Docker gives: AUDIT_WRITE, FSETID, MKNOD, NET_RAW (forged packets), SETFCAP, SETPCAP, SYS_CHROOT.
"""

_OOM_SCORE = 500  # what a lease runs is killed before the agent, where the machine runs short
#: Nothing answers there: names of the internet are not found at once instead of after a while.
_NO_RESOLVER = "127.0.0.1"


def document(
    lease: Lease,
    service: Service,
    number: int,
    image: Image,
    *,
    labels: Mapping[str, str],
    network: str,
    mounts: Sequence[tuple[str, Path, bool]],
    resolvers: Sequence[str],
    log_bytes: int,
) -> dict[str, Any]:
    """The body of the request that makes a container."""
    gpus = [device.uuid for device in service.devices_of(number) if device.kind == "cuda"]
    env = [f"{name}={value}" for name, value in service.env.items()]
    # An image that names GPUs of its own gets them from NVIDIA's runtime, so ours stands over it.
    env.append(f"NVIDIA_VISIBLE_DEVICES={','.join(gpus) or 'void'}")
    host = {
        "Memory": service.memory,
        "MemorySwap": service.memory,  # with swap: so there is none
        "NanoCpus": service.cpu * 1_000_000,
        "PidsLimit": service.pids,
        "ShmSize": service.shm,
        "OomScoreAdj": _OOM_SCORE,
        # Open files need no number: the kernel counts them as the container's memory.
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "Privileged": False,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "CapAdd": sorted(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Runtime": "runc",  # the engine's default may be NVIDIA's, which listens to the image
        "DeviceRequests": gpu_requests(gpus),
        "Mounts": [
            {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only}
            for target, source, read_only in mounts
        ],
        "NetworkMode": network,
        "PublishAllPorts": False,
        "Dns": list(resolvers) if lease.outbound else [_NO_RESOLVER],
        "DnsSearch": ["."],
        # After a restart of the machine walls and file systems have to stand first: the agent
        # starts what has died, the engine nothing.
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(log_bytes // LOG_FILES), "max-file": str(LOG_FILES)},
        },
    }
    said = {SERVICE: service.name, NUMBER: str(number), SPEC: digest(lease)}
    return {
        "Image": image.id,
        "Hostname": service.name if service.count == 1 else f"{service.name[:56]}-{number}",
        "Env": env,
        "Entrypoint": list(service.command) or None,
        "Cmd": list(service.args) or None,
        "Labels": {**labels, **said},
        "StopTimeout": STOP_SECONDS,
        # The engine would run it at any pace that the image asks for.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": [service.name]}}},
    }


def gpu_requests(uuids: Sequence[str]) -> list[dict[str, Any]]:
    """The engine's form of a request for these GPUs, and no other."""
    if not uuids:
        return []
    return [
        {
            "Driver": "nvidia",
            "DeviceIDs": list(uuids),
            "Capabilities": [["gpu", "compute", "utility"]],
        }
    ]


def compare(asked: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Whether a container is what was asked for, as the engine shows it. Raises RunnerError.

    An engine that is older, or set up in another way, may leave out what it cannot do.
    """
    wrong = [
        f"{name} is {found['HostConfig'].get(name)!r} instead of {value!r}"
        for name, value in asked["HostConfig"].items()
        if not _same(name, value, found["HostConfig"].get(name))
    ]
    for name in ("Binds", "Devices", "VolumesFrom", "PortBindings", "DeviceCgroupRules", "Links"):
        if found["HostConfig"].get(name):
            wrong.append(f"{name} is {found['HostConfig'][name]!r}")
    targets = {mount["Target"] for mount in asked["HostConfig"]["Mounts"]}
    more = {mount["Destination"] for mount in found["Mounts"]} ^ targets
    if more:
        wrong.append(f"the mounts {sorted(more)} differ")
    if found["Image"] != asked["Image"]:
        wrong.append("it has another image")
    if wrong:
        raise RunnerError(
            f"the engine made another container than asked: {'; '.join(wrong)[:1000]}"
        )


def _same(name: str, asked: Any, found: Any) -> bool:
    if name == "CapAdd":
        return {one.removeprefix("CAP_") for one in found or ()} == set(asked)
    if isinstance(asked, Mapping) and isinstance(found, Mapping):
        return all(_same("", value, found.get(key)) for key, value in asked.items())
    if isinstance(asked, list) and isinstance(found, list) and len(asked) == len(found):
        return all(_same("", *pair) for pair in zip(asked, found, strict=True))
    return bool(asked == found or (not asked and not found))
