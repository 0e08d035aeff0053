# SPDX-License-Identifier: Apache-2.0
"""Files of SDL become services by one command each: they answer over TLS, and their containers have
what the file names, and nothing else. What is expected is written by hand: no parser is asked.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.agent.docker.conftest import daemon, inside, registry, shell
from tests.agent_e2e.lease_camp import Camp, camp
from tools.engine import Daemon

__all__ = ["daemon", "inside", "registry", "shell"]

FILES = Path(__file__).parent / "sdl_files"
MIB = 1 << 20
NAMES = 31_001  # where the provider serves names of hosts
MORE = 3 * MIB + (MIB >> 1)
"""What a file system may have beyond what was named: its own books, and room to see a limit."""


@dataclass(frozen=True)
class Expected:
    """One container, as its file has it. Bytes; processors in billionths."""

    cpu: int
    memory: int
    root: int
    shm: int
    entry: list[str] | None
    words: list[str] | None
    env: list[str]
    volumes: dict[str, tuple[int, bool]] = field(default_factory=dict)
    """Where, how large, and whether it is read-only."""
    count: int = 1


STORE_SCRIPT = (
    'mkdir -p /tmp/www; echo "stock=7" > /tmp/www/stock; exec httpd -f -p 7000 -h /tmp/www'
)
WEB_SCRIPT = (
    "mkdir -p /tmp/www; until wget -qO /tmp/stock http://store:700/stock; do sleep 1; done; "
    'printf \'%s|%s|%s|%s|\' "$TITLE" "$EQUATION" "$EMPTY" "$1" > /tmp/page; '
    "cat /tmp/page /tmp/stock > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"
)
CELL_SCRIPT = """mkdir -p /var/www
hostname > /var/www/index.html
# Nothing may be written to what is read-only.
touch /fixed/x 2> /dev/null && echo "written" >> /var/www/index.html
exec httpd -f -p 8000 -h /var/www
"""
EXPECTED = {
    "shop": {
        "store": Expected(
            150_000_000,
            48 * MIB,
            12_000_000,
            48 * MIB,
            ["/bin/sh", "-c"],
            [STORE_SCRIPT],
            [],
            {"/var/lib/ledger": (8 * MIB, False)},
        ),
        "web": Expected(
            250_000_000,
            48 * MIB,
            16 * MIB,
            8 * MIB,
            ["/bin/sh"],
            ["-c", WEB_SCRIPT, "zero", "8080"],
            ["TITLE=It is 7 o'clock: #1", "EQUATION=a=b=c", "EMPTY="],
        ),
    },
    "cells": {
        "cell": Expected(
            100_000_000,
            32 * MIB,
            8 * MIB,
            32 * MIB,
            None,
            ["/bin/sh", "-c", CELL_SCRIPT],
            [],
            {"/fixed": (6 * MIB, True), "/fixed/deep": (7 * MIB, False)},
            count=2,
        )
    },
    "press": {
        "press": Expected(
            1_000_000_000,
            96 * MIB,
            5 * MIB,
            64 * MIB,
            [
                *("/bin/busybox", "sh", "-c"),
                'echo "$PRESS_ID" > /tmp/index.html; exec httpd -f -p 9 -h /tmp',
            ],
            None,
            ['PRESS_ID="quoted" \\ and $NOT_EXPANDED ${TWICE}', "press.mode=a b"],
        )
    },
}
SSH = """#!/bin/bash
while [ "$1" != -p ]; do shift; done
exec 3<> "/dev/tcp/127.0.0.1/$2"
printf 'GET %s HTTP/1.0\r\n\r\n' "$4" >&3
cat <&3
exit 7
"""
PAGES = {
    "shop": [("127.0.0.1", "It is 7 o'clock: #1|a=b=c||8080|stock=7")],
    "cells": [("cells.example.com", "cell-"), ("cells.example.org", "cell-")],
    "press": [("127.0.0.1", '"quoted" \\ and $NOT_EXPANDED ${TWICE}')],
}


@pytest.fixture(scope="module")
def market(daemon: Daemon) -> Iterator[Camp]:
    with daemon.namespace.entered(), camp(daemon) as made:
        made.provider(
            TERAPROOF_LEASES__REGION="eu-test",
            TERAPROOF_LEASES__CLASSES='["beta2"]',
            TERAPROOF_LEASES__CPUS="8",
        )
        yield made


@pytest.mark.parametrize("name", list(EXPECTED))
def test_file__one_command__answers_over_tls_within_exactly_its_limits(
    name: str, market: Camp, inside: None, shell: str
) -> None:
    (provider,) = market.providers
    text = (FILES / f"{name}.yaml").read_text().replace("IMAGE", shell)
    (market.home / f"{name}.yaml").write_text(text)
    line = ("hire", f"{name}.yaml", provider.address, "--term", "1 hour", "--akt-usd", "2.5")
    lease = market.json("lease", *line)["lease"]
    try:
        # They open with the containers, a moment after `ready`.
        ports = market.until(lambda: market.json("lease", "ports", lease)["ports"], "ports")
        for host, page in PAGES[name]:
            said = market.until(partial(page_of, ports, host), f"a page of {name}")
            assert page in said and "written" not in said
        if name == "press":
            assert PAGES[name][0][1] in through_ssh(market, lease)
        found = {
            service: [one for one in provider.containers() if is_of(one, lease, service)]
            for service in EXPECTED[name]
        }
        assert sum(map(len, found.values())) == len(
            [one for one in provider.containers() if is_of(one, lease)]
        )
        for service, expected in EXPECTED[name].items():
            assert len(found[service]) == expected.count
            for number, container in enumerate(found[service]):
                compare(container, expected)
                fill(market, lease, service, number, expected)
    finally:
        market.types("lease", "close", lease)
    market.until(lambda: not [1 for one in provider.containers() if is_of(one, lease)], "removal")


def through_ssh(market: Camp, lease: str) -> str:
    """What the tenant's `ssh` gets from where it is led: one of the test's own, which asks for a
    page. There is no server of ssh in the image.
    """
    tools = market.home / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "ssh").write_text(SSH)
    (tools / "ssh").chmod(0o755)
    market.environment["PATH"] = f"{tools}:{os.environ['PATH']}"
    said = market.types("lease", "ssh", lease, "--port", "9", "--", "/", code=7)
    del market.environment["PATH"]
    return said


def page_of(ports: list[dict[str, Any]], host: str) -> str:
    """What the public gets over TLS. The agent signs for itself: no authority is asked here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    number = ports[0]["outer"] if host == "127.0.0.1" else NAMES
    client = httpx.Client(verify=context, trust_env=False, timeout=10)
    with client, contextlib.suppress(httpx.HTTPError):
        answer = client.get(
            f"https://127.0.0.1:{number}/",
            headers={"Host": host},
            extensions={"sni_hostname": host},
        )
        return answer.text if answer.status_code == 200 else ""
    return ""


def is_of(container: dict[str, Any], lease: str, service: str | None = None) -> bool:
    """Whether a container is of a lease, and of a service."""
    labels = list(container["Config"]["Labels"].values())
    return lease.removeprefix("0x") in labels and (service is None or service in labels)


def compare(container: dict[str, Any], expected: Expected) -> None:
    """What the engine shows of a container, against what the file says."""
    host, config = container["HostConfig"], container["Config"]
    limits = {
        "NanoCpus": expected.cpu,
        "Memory": expected.memory,
        "MemorySwap": expected.memory,
        "ShmSize": expected.shm,
        "ReadonlyRootfs": True,
        "Privileged": False,
        "PublishAllPorts": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "PidsLimit": 2_048,
    }
    assert {key: host[key] for key in limits} == limits
    for nothing in ("PortBindings", "DeviceRequests", "Devices", "Binds", "PidMode", "VolumesFrom"):
        assert not host[nothing], nothing
    assert config["Entrypoint"] == expected.entry and config["Cmd"] == expected.words
    own = sorted([*expected.env, "NVIDIA_VISIBLE_DEVICES=void"])
    assert sorted(one for one in config["Env"] if not one.startswith("PATH=")) == own
    assert not config["User"] and not config.get("ExposedPorts")
    mounts = {one["Destination"]: one for one in container["Mounts"]}
    for place, (size, read_only) in expected.volumes.items():
        assert mounts[place]["RW"] is not read_only
        image = Path(mounts[place]["Source"]).parents[1] / "disk.img"
        assert size <= image.stat().st_size <= size + 6 * MIB
        # Allocated at once: what was sold is there.
        assert image.stat().st_blocks * 512 >= size and stat.S_ISREG(image.stat().st_mode)
    assert all("/var/run/docker" not in one["Source"] for one in mounts.values())


def fill(market: Camp, lease: str, service: str, number: int, expected: Expected) -> None:
    """All that was named can be written, and hardly more."""
    places = {"/tmp/full": expected.root} | {
        f"{place}/full": size
        for place, (size, read_only) in expected.volumes.items()
        if not read_only
    }
    for place, size in places.items():
        # A page and the like are there already: so a MiB less than what was named.
        script = (
            f"dd if=/dev/zero of={place} bs=65536 count={(size - MIB) // 65_536} 2> /dev/null "
            f"|| echo short; dd if=/dev/zero of={place}.more bs=65536 "
            f"count={(2 * MIB + MORE) // 65_536} 2> /dev/null && echo more; rm {place} {place}.more"
        )
        options = ("--service", service, "--number", str(number))
        said = market.types("lease", "shell", lease, *options, "--", "/bin/sh", "-c", script)
        assert "short" not in said and "more" not in said, (place, said)
