# SPDX-License-Identifier: Apache-2.0
"""A file is read as Akash reads it: the group specifications are the same, field for field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from teraproof.sdl.faults import SdlError
from teraproof.sdl.leases import examine, read
from tests.support.sdl import FULL, SMALL, changed, samples


def groups(data: bytes) -> list[dict[str, Any]]:
    examined = examine(data)
    found = examined.group_specs()
    assert found is not None, examined.faults
    return found


def attribute(key: str, value: str) -> dict[str, str]:
    return {"key": key, "value": value}


@pytest.mark.parametrize("file", samples("valid"), ids=lambda path: path.stem)
def test_samples__valid__the_group_specifications_that_are_published(file: Path) -> None:
    expected = json.loads(file.with_suffix(".group-specs.json").read_text())
    assert groups(file.read_bytes()) == expected


@pytest.mark.parametrize("file", samples("invalid"), ids=lambda path: path.stem)
def test_samples__invalid__refused_with_line_and_reason(file: Path) -> None:
    with pytest.raises(SdlError) as refused:
        read(file.read_bytes())
    lines = file.read_text().splitlines()
    for fault in refused.value.faults:
        assert 1 <= fault.place.line <= len(lines) and fault.place.column >= 1
        assert fault.place.path and fault.reason


def test_full__every_part_in_the_place_where_akash_has_it() -> None:
    assert groups(FULL.encode()) == [
        {
            "name": "west",
            "requirements": {
                "signed_by": {"all_of": None, "any_of": ["one", "two"]},
                # By the bytes of the keys: a capital stands before the underscore.
                "attributes": [
                    attribute("aB", "2"),
                    attribute("a_b", "1"),
                    attribute("region", "us-west"),
                ],
            },
            "resources": [
                {
                    "resource": {
                        "id": 1,
                        "cpu": {
                            "units": {"val": "2500"},
                            "attributes": [attribute("arch", "amd64")],
                        },
                        "memory": {"size": {"val": str(16 << 30)}},
                        "storage": [
                            {
                                "name": "shm",
                                "size": {"val": str(3 << 29)},
                                "attributes": [
                                    attribute("class", "ram"),
                                    attribute("persistent", "false"),
                                ],
                            },
                            {"name": "default", "size": {"val": str(10 << 30)}},
                            {
                                "name": "weights",
                                "size": {"val": "100000000000"},
                                "attributes": [
                                    attribute("class", "beta3"),
                                    attribute("persistent", "true"),
                                ],
                            },
                        ],
                        "gpu": {
                            "units": {"val": "2"},
                            "attributes": [
                                attribute("vendor/nvidia/model/a100", "true"),
                                attribute(
                                    "vendor/nvidia/model/h100/ram/80Gi/interface/sxm", "true"
                                ),
                            ],
                        },
                        "endpoints": [{"sequence_number": 0}, {"kind": 1, "sequence_number": 0}],
                    },
                    "count": 2,
                    "price": {"denom": "uact", "amount": "10000.000000000000000000"},
                },
                {
                    "resource": {
                        "id": 2,
                        "cpu": {"units": {"val": "100"}},
                        "memory": {"size": {"val": "268435456"}},
                        "storage": [{"name": "default", "size": {"val": str(512 << 20)}}],
                        "gpu": {"units": {"val": "0"}},
                        "endpoints": [],
                    },
                    "count": 1,
                    "price": {"denom": "uact", "amount": "0.500000000000000000"},
                },
            ],
        }
    ]


TWO = """
version: "{version}"
services:
  b:
    image: nginx
    expose:
      - port: 80
        to: [{{global: true, ip: second}}]
  a:
    image: nginx
    expose:
      - port: 80
        as: 81
        to: [{{global: true, ip: first}}]
      - port: 90
        to: [{{service: b}}]
profiles:
  compute:
    one:
      resources:
        cpu: {{units: "10m"}}
        memory: {{size: 128Mi}}
        storage: {{size: 512Mi}}
  placement:
    g:
      pricing:
        one: {{denom: uakt, amount: 10}}
deployment:
  b: {{g: {{profile: one, count: 1}}}}
  a: {{g: {{profile: one, count: 3}}}}
endpoints:
  first: {{kind: ip}}
  second: {{kind: ip}}
"""


def units(version: str) -> list[tuple[int, int, list[Any]]]:
    (group,) = groups(TWO.format(version=version).encode())
    return [
        (unit["resource"]["id"], unit["count"], unit["resource"]["endpoints"])
        for unit in group["resources"]
    ]


# A port that is for a service alone takes a number too, the first one.
FIRST = [{"kind": 1, "sequence_number": 0}, {"kind": 2, "sequence_number": 2}]
SECOND = [{"sequence_number": 0}, {"kind": 2, "sequence_number": 3}]


def test_one_profile_of_two_services__apart_in_2_0_and_together_in_2_1() -> None:
    assert units("2.0") == [(1, 3, FIRST), (2, 1, SECOND)]
    assert units("2.1") == [(1, 4, [FIRST[0], SECOND[0], FIRST[1], SECOND[1]])]


def test_endpoints__valid_sdl_and_not_sold_here() -> None:
    examined = examine(TWO.format(version="2.1").encode())
    assert not examined.leases and examined.group_specs()
    assert {fault.code.value for fault in examined.faults} == {"sdl_unsupported"}


@pytest.mark.parametrize(
    ("volumes", "order"),
    [
        # By size; of equal ones, those that are not persistent are turned around.
        ("[{size: 5Mi, name: a}, {size: 6Mi, name: b}]", "ab"),
        ("[{size: 6Mi, name: a}, {size: 5Mi, name: b}]", "ba"),
        ("[{size: 5Mi, name: a}, {size: 5Mi, name: b}]", "ba"),
        ("[{size: 5Mi, name: b}, {size: 5Mi, name: a, attributes: {persistent: true}}]", "ba"),
        ("[{size: 5Mi, name: a, attributes: {persistent: true}}, {size: 5Mi, name: b}]", "ba"),
        (
            "[{size: 5Mi, name: b, attributes: {persistent: true}},"
            " {size: 5Mi, name: a, attributes: {persistent: true}}]",
            "ab",
        ),
    ],
)
def test_volumes__in_the_order_of_akashs_sort(volumes: str, order: str) -> None:
    text = changed(SMALL, "storage:\n          size: 1Gi", f"storage: {volumes}").decode()
    mounts = "    params: {storage: {a: {mount: /a}, b: {mount: /b}}}\n"
    data = changed(text, "profiles:\n  compute", mounts + "profiles:\n  compute")
    (group,) = groups(data)
    storage = group["resources"][0]["resource"]["storage"]
    assert "".join(each["name"] for each in storage) == order


@pytest.mark.parametrize("tee", ["cpu", "cpu-gpu"])
def test_tee__an_attribute_of_the_group_for_akash_and_not_sold_here(tee: str) -> None:
    data = changed(FULL, "    params:\n", f"    params:\n      tee: {tee}\n")
    (group,) = groups(data)
    assert attribute("tee/type", tee) in group["requirements"]["attributes"]
    assert not examine(data).leases


def test_any_gpu__a_star_in_the_attribute() -> None:
    gpu = "        gpu: {units: 1, attributes: {vendor: {nvidia: }}}\n  placement:"
    (group,) = groups(changed(SMALL, "  placement:", gpu))
    assert group["resources"][0]["resource"]["gpu"] == {
        "units": {"val": "1"},
        "attributes": [attribute("vendor/nvidia/model/*", "true")],
    }
