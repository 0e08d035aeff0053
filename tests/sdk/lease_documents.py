# SPDX-License-Identifier: Apache-2.0
"""Lease specifications that are nearly valid: a valid one, changed in a few places."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

from eth_utils.address import to_checksum_address
from hypothesis import strategies as st

from teraproof.sdl.leases import read
from tests.support.sdl import FULL

Document = Any

(_LEASE,) = read(FULL.encode())
VALID: dict[str, Any] = _LEASE.spec.to_json()
#: What an order may add: a list of the only providers that may take it, in order.
ALLOWED = ["0x" + digit * 40 for digit in "123"]
#: And a volume of `store` is saved.
SAVED: dict[str, Any] = {
    "service": "store",
    "path": "/state/run",
    "uri": "s3://a-bucket/some/run",
    "every_seconds": 60,
    "keep": 3,
}

_texts = st.text(st.sampled_from([*"aZ09_-. /:@\t\n\r\x00\x7f\x9f", "é", "\ud800", "\U0001f600"]))
_integers = st.sampled_from(
    [-1, 0, 1, 9, 10, 50, 51, 64, 65, 65_535, 65_536, 1_024_000, 1_024_001, 100 << 20, 5 << 20]
    + [1 << 20, 6 << 20, 1 << 30, 80 << 30, 16 << 40, 64 << 40, (64 << 40) + 1, 2**53 - 1]
)
_names = st.sampled_from(["a", "model", "store", "A", "a-", "-a", "a" * 63, "a" * 64, "a\n", "a.b"])
_paths = st.sampled_from(
    ["/a", "a", "/", "/a/", "/a//b", "/a/../b", "/./a", "/dev/shm", "/dev", "/proc/a", "/sys"]
    + ["/a:b", "/a b", "/" + "a" * 64, "/" + "a" * 65, "/a" * 16, "/a" * 17, "/a\n", "/processes"]
)
_images = st.sampled_from(
    ["a", "A", "a:1", "a:", "a/b", "a//b", "h.io:5000/a", "h.io:x/a", "a@sha256:" + "0" * 64]
    + ["a:1@sha256:" + "0" * 64, "a@sha256:" + "0" * 63, "a__b", "a___b", "a..b", "a\n", "-a"]
)
_hosts = st.sampled_from(["a.com", "a", "A.com", "a.com\n", "-a.com", "a.1", "models.example.com"])
_uris = st.sampled_from(
    ["s3://abc", "s3://a-b.c/d", "s3://ab", "s3://a..b/c", "s3://abc/", "s3://abc/../d", "s3://Abc"]
    + ["S3://abc", "https://abc/d", "s3://abc//d", "s3://abc/d?e", "s3://abc/d\n", "s3://a:b@c/d"]
)
_classes = st.sampled_from(["beta1", "beta2", "beta3", "default", "ram", ""])
_words = st.sampled_from(
    ["tcp", "udp", "TCP", "nvidia", "amd", "pcie", "sxm", "amd64", "arm64", "x86", "h100", "H100"]
    + ["error", "timeout", "502", "off", "1", "two", "NVIDIA_VISIBLE_DEVICES"]
)
_others: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | _integers
    | _texts
    | _names
    | _paths
    | _images
    | _hosts
    | _uris
    | _classes
    | _words
    | st.just([])
    | st.just({})
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document, the document itself first."""
    found = [at]
    if isinstance(value, dict):
        for name, part in value.items():
            found += places(part, (*at, name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            found += places(part, (*at, number))
    return found


def saving(document: Document) -> Document:
    """With checkpoints of a volume that it gets."""
    given = next(one for one in document["services"] if one["name"] == "store")["resources"]
    given["volumes"] = [
        {"name": "a", "bytes": 64 << 20, "mount": "/state", "read_only": False, "persistent": False}
    ]
    return {**document, "checkpoints": dict(SAVED)}


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A document with up to two places changed, left out, doubled or added to."""
    document = saving(copy.deepcopy(VALID)) if draw(st.booleans()) else copy.deepcopy(VALID)
    if draw(st.booleans()):
        document["allow"] = [*ALLOWED]
    for _ in range(draw(st.integers(0, 2))):
        *path, last = draw(st.sampled_from(places(document)[1:] or [("version",)]))
        at: Any = document
        for part in path:
            at = at[part]
        kind = draw(st.integers(0, 7))
        if kind == 0:
            del at[last]
        elif kind == 1 and isinstance(at, list):
            at.insert(last, copy.deepcopy(at[last]))
        elif kind == 2 and isinstance(at, list):
            at.reverse()
        elif kind == 3 and isinstance(at, dict):
            at[draw(_words | _names)] = draw(_others)
        else:
            at[last] = draw(_others)
    return document


def beyond_a_schema(document: Document) -> Iterator[str]:
    """Rules of docs/leases.md that no schema can say and that a document of a valid form breaks."""
    services = document["services"]
    names = [service["name"] for service in services]
    allowed = document.get("allow", [])
    if allowed != sorted({to_checksum_address(one) for one in allowed}, key=str.lower):
        yield "order of owners"
    if names != sorted(set(names)):
        yield "order of services"
    taken = set()
    for service in services:
        given, ports = service["resources"], service["ports"]
        named = [service["after"], *(port["services"] for port in ports)]
        if any(found != sorted(set(found)) for found in named):
            yield "order of names"
        if any(name not in names for found in named for name in found):
            yield "a service that is not there"
        keys = [volume["name"] for volume in given["volumes"]]
        if keys != sorted(set(keys)):
            yield "order of volumes"
        mounts = [volume["mount"] for volume in given["volumes"]]
        if len(set(mounts)) < len(mounts):
            yield "two volumes at one path"
        if given["shm_bytes"] > given["memory_bytes"]:
            yield "more shared memory than memory"
        sorts = [
            [sort["vendor"], sort.get("model", ""), sort.get("memory_bytes", 0)]
            + [sort.get("interface", "")]
            for sort in given["gpus"]["any_of"]
        ]
        if any(first >= second for first, second in itertools.pairwise(sorts)):
            yield "order of GPUs"
        keys = [(port["port"], port["protocol"], port["as"]) for port in ports]
        if keys != sorted(set(keys)):
            yield "order of ports"
        for port in ports:
            cases = port.get("http", {}).get("next_cases", [])
            if port["hosts"] != sorted(set(port["hosts"])) or cases != sorted(set(cases)):
                yield "order in a port"
            for host in port["hosts"]:
                if (host, port["as"]) in taken:
                    yield "a host twice"
                taken.add((host, port["as"]))
    saved = document.get("checkpoints")
    if saved is not None:
        here = [one for one in services if one["name"] == saved["service"] and one["count"] == 1]
        above = [
            (len(one["mount"]), one["read_only"])
            for service in here
            for one in service["resources"]["volumes"]
            if saved["path"] == one["mount"] or saved["path"].startswith(one["mount"] + "/")
        ]
        if not above or max(above)[1]:
            yield "checkpoints of what nobody writes"
    after = {service["name"]: set(service["after"]) for service in services}
    for _ in names:
        free = {name for name, waits in after.items() if not waits & after.keys()}
        after = {name: waits for name, waits in after.items() if name not in free}
    if after:
        yield "a circle"
