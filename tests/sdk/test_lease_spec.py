# SPDX-License-Identifier: Apache-2.0
"""Lease specifications: one spelling, named by its hash, and what they take of a provider."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teraproof.errors import SpecError
from teraproof.protocol import leasespec
from teraproof.protocol.leasespec import Gpu, LeaseSpec, Needs, Resources, Service
from teraproof.sdl.leases import HOUR, MONTH, examine, read
from teraproof.sdl.quantities import price_atto
from tests.sdk.lease_documents import VALID, beyond_a_schema, documents, saving
from tests.support import budget
from tests.support.sdl import FULL, SMALL, changed

GIB = 1 << 30


def spec_of(data: bytes) -> LeaseSpec:
    (lease,) = read(data)
    return lease.spec


FULL_SPEC = spec_of(FULL.encode())
(CHEAP,) = read(SMALL.encode())


def test_full__every_field_of_the_file_in_the_specification() -> None:
    model, store = VALID["services"]
    assert VALID["version"] == 1 and VALID["name"] == "west" and VALID["outbound"] is True
    assert VALID["requirements"] == {
        "attributes": {"region": "us-west", "aB": "2", "a_b": "1"},
        "notice_seconds": 86_400,
    }
    assert {name: model[name] for name in ("name", "image", "registry", "count", "after")} == {
        "name": "model",
        "image": "ghcr.io/example/server:1.4",
        "registry": "ghcr.io",
        "count": 2,
        "after": ["store"],
    }
    assert model["command"] == ["python", "-m", "server"]
    assert model["args"] == ["--port=8000", "two\nlines\n"]
    assert model["env"] == {"MODEL": "tiny", "EMPTY": ""}
    assert model["resources"] == {
        "cpu_millis": 2_500,
        "arch": "amd64",
        "memory_bytes": 16 * GIB,
        "shm_bytes": 3 * GIB // 2,
        "root_bytes": 10 * GIB,
        "gpus": {
            "count": 2,
            "any_of": [
                {"vendor": "nvidia", "model": "a100"},
                {
                    "vendor": "nvidia",
                    "model": "h100",
                    "memory_bytes": 80 * GIB,
                    "interface": "sxm",
                },
            ],
        },
        "volumes": [
            {
                "name": "weights",
                "bytes": 100_000_000_000,
                "mount": "/weights",
                "read_only": True,
                "persistent": True,
                "class": "beta3",
            }
        ],
    }
    assert model["ports"] == [
        {
            "port": 8_000,
            "as": 80,
            "protocol": "tcp",
            "public": True,
            "services": ["store"],
            "hosts": ["models.example.com"],
            "http": {
                "max_body_bytes": 10_485_760,
                "read_timeout_ms": 30_000,
                "send_timeout_ms": 60_000,
                "next_tries": 5,
                "next_timeout_ms": 1_000,
                "next_cases": ["502", "error"],
            },
        },
        {
            "port": 9_000,
            "as": 9_000,
            "protocol": "udp",
            "public": True,
            "services": [],
            "hosts": [],
        },
    ]
    assert store["resources"]["memory_bytes"] == 256 << 20
    assert store["ports"][0]["public"] is False and store["ports"][0]["services"] == ["model"]


def test_needs__all_containers_together_for_the_ledger() -> None:
    needs = FULL_SPEC.needs()
    assert needs.cpu_millis == 2 * 2_500 + 100
    assert needs.memory_bytes == 2 * 16 * GIB + (256 << 20)
    assert needs.disk_bytes == 2 * (10 * GIB + 100_000_000_000) + (512 << 20)
    sorts = (Gpu("nvidia", "a100"), Gpu("nvidia", "h100", 80 * GIB, "sxm"))
    assert [(need.count, need.any_of) for need in needs.gpus] == [(2, sorts)] * 2
    assert needs.gpu_count == 4


def test_digest__of_the_canonical_bytes_and_of_nothing_else() -> None:
    data = FULL_SPEC.canonical()
    assert data == json.dumps(VALID, sort_keys=True, separators=(",", ":")).encode()
    assert FULL_SPEC.digest() == hashlib.sha256(data).digest()
    assert leasespec.parse_named(data, FULL_SPEC.digest()) == FULL_SPEC
    assert leasespec.parse(json.dumps(VALID, indent=2).encode()) == FULL_SPEC


def test_digest__the_order_and_the_layout_of_the_file_do_not_matter() -> None:
    text = FULL.replace('"2"', "'2'").replace("units: 2.5", 'units: "2500m"')
    text = text.replace("size: 16Gi", "size: 16384Mi").replace("next_cases: [", "next_cases: [ ")
    head, services = text.split("services:\n")
    inner, rest = services.split("profiles:\n")
    model, store = inner.split("  store:\n")
    turned = f"profiles:\n{rest}services:\n  store:\n{store}{model}"
    assert spec_of((head + turned).encode()).digest() == FULL_SPEC.digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("units: 2.5", "units: 2.501"),
        ("size: 16Gi", "size: 17Gi"),
        ("- MODEL=tiny", "- MODEL=tinY"),
        ("ram: 80Gi", "ram: 81Gi"),
        ("min_window: 24h", "min_window: 25h"),
        ("      - service: store\n    expose", "      []\n    expose"),
    ],
)
def test_digest__changes_with_what_is_asked_for(old: str, new: str) -> None:
    assert spec_of(changed(FULL, old, new)).digest() != FULL_SPEC.digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [("amount: 10000", "amount: 1"), ("not-a-secret", "another-one"), ("# Every", "# Not every")],
)
def test_digest__says_nothing_of_price_password_and_comment(old: str, new: str) -> None:
    assert spec_of(changed(FULL, old, new)).digest() == FULL_SPEC.digest()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[]", "a JSON object"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"version": 1, "version": 1}', "stands twice"),
        (b'{"version": 1.0}', "floats are refused"),
        (b"[" * 100_000, "far too large"),
        (b" " * (leasespec.MAX_BYTES + 1), "larger than"),
    ],
)
def test_parse__not_one_json_document__refused(data: bytes, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        leasespec.parse(data)


def test_parse_named__other_bytes_or_another_form__refused() -> None:
    data = FULL_SPEC.canonical()
    with pytest.raises(SpecError, match="sha256 differs"):
        leasespec.parse_named(data, bytes(32))
    loose = json.dumps(VALID).encode()
    with pytest.raises(SpecError, match="not in RFC 8785 form"):
        leasespec.parse_named(loose, hashlib.sha256(loose).digest())


def test_checkpoints__in_the_specification_with_room_for_a_copy() -> None:
    document = saving(copy.deepcopy(VALID))
    found = leasespec.parse(json.dumps(document).encode())
    assert found.to_json() == document and found.digest() != FULL_SPEC.digest()
    saved = found.saved
    assert saved is not None and (saved[0].name, saved[1]) == ("a", "run")
    assert found.needs().disk_bytes == FULL_SPEC.needs().disk_bytes + 2 * (64 << 20)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"service": "nobody"}, "not a service of the lease"),
        ({"service": "model"}, "several replicas"),
        ({"path": "/stat"}, "name a volume"),
        ({"path": "/"}, "absolute path"),
        ({"uri": "https://store.example/run"}, "s3://bucket/prefix"),
        ({"uri": "s3://key:secret@bucket/run"}, "s3://bucket/prefix"),
        ({"every_seconds": 4}, "from 5"),
        ({"keep": 0}, "1 to 1000"),
    ],
)
def test_checkpoints_that_cannot_be__refused_by_the_field(
    change: dict[str, Any], said: str
) -> None:
    document = saving(copy.deepcopy(VALID))
    document["checkpoints"] |= change
    with pytest.raises(SpecError, match=said) as caught:
        leasespec.parse(json.dumps(document).encode())
    assert "checkpoints" in str(caught.value)


def test_no_volume_but_mounted_ones__the_rest_has_a_size_that_is_named() -> None:
    text = changed(
        SMALL, "storage:\n          size: 1Gi", "storage: [{size: 1Gi, name: a}]"
    ).decode()
    mount = "    params: {storage: {a: {mount: /a}}}\nprofiles:\n  compute"
    resources = spec_of(changed(text, "profiles:\n  compute", mount)).services[0].resources
    assert resources.root_bytes == leasespec.ROOT_BYTES
    assert resources.disk_bytes == leasespec.ROOT_BYTES + GIB


def test_shared_memory__never_more_than_memory() -> None:
    small = spec_of(changed(SMALL, "size: 512Mi", "size: 6Mi")).services[0].resources
    assert (small.memory_bytes, small.shm_bytes) == (6 << 20, 6 << 20)
    assert spec_of(SMALL.encode()).services[0].resources.shm_bytes == leasespec.SHM_BYTES


def test_shared_memory__all_of_the_memory_is_allowed_and_no_more() -> None:
    whole = changed(FULL, "size: 1.5Gi", "size: 16Gi")
    assert spec_of(whole).services[0].resources.shm_bytes == 16 * GIB
    more = examine(changed(FULL, "size: 1.5Gi", "size: 16385Mi")).faults
    assert ["memory.size" in fault.reason for fault in more] == [True]


def test_gpu__shown_by_what_is_known_of_it() -> None:
    assert str(Gpu("nvidia", "h100", 80 * GIB, "sxm")) == "nvidia h100 80 GiB sxm"
    assert str(Gpu("nvidia")) == "nvidia any model"


@settings(max_examples=150, deadline=None)
@given(documents())
def test_documents__taken_or_refused_in_one_line(document: Any) -> None:
    data = json.dumps(document).encode()
    try:
        spec = leasespec.parse(data)
    except SpecError as error:
        line = str(error)
        assert line.isascii() and line.isprintable() and len(line) < 400
        return
    assert not list(beyond_a_schema(document))
    assert spec.to_json() == document
    assert leasespec.parse_named(spec.canonical(), spec.digest()) == spec


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["services"].reverse(), "each name once, in order"),
        (lambda d: d["services"][0].update(after=["gone"]), "is not a service"),
        (lambda d: d["services"][1].update(after=["model"]), "started after itself"),
        (lambda d: d["services"][0]["ports"].reverse(), "each port once, in order"),
        (lambda d: d["services"][0]["resources"].update(shm_bytes=17 * GIB), "more than all"),
        (lambda d: d["services"][0]["resources"]["gpus"]["any_of"].reverse(), "each sort once"),
        (lambda d: d["services"][0]["resources"]["gpus"].update(count=0), "no GPUs"),
        (lambda d: d["services"][0]["resources"]["gpus"].update(any_of=[]), "one sort of GPU"),
        (
            lambda d: d["services"][0]["resources"]["volumes"][0].update(persistent=False),
            "only a persistent volume",
        ),
        (lambda d: d["services"][0]["ports"][1].update(hosts=["a.com"]), "public TCP ports"),
        (lambda d: d["services"][0]["env"].update(NVIDIA_VISIBLE_DEVICES="all"), "not allowed"),
        (lambda d: d.update(price=1), "unknown field"),
        (lambda d: d.pop("requirements"), "missing"),
    ],
)
def test_one_spelling__any_other_is_refused(change: Any, said: str) -> None:
    document = copy.deepcopy(VALID)
    change(document)
    with pytest.raises(SpecError, match=said):
        leasespec.parse(json.dumps(document).encode())


def test_checked__a_specification_made_by_hand_is_read_like_any_other() -> None:
    small = Resources(100, 64 << 20, 1 << 20, 5 << 20)
    made = LeaseSpec("x", (Service("a", "busybox", small),))
    assert leasespec.checked(made) == made
    assert made.needs() == Needs(100, 64 << 20, 5 << 20, ())
    with pytest.raises(SpecError, match="image"):
        leasespec.checked(LeaseSpec("x", (Service("a", "no image", small),)))
    with pytest.raises(SpecError, match="services"):
        leasespec.checked(replace(made, services=()))


# ---------------------------------------------------------------------- prices


def test_price__all_replicas_of_all_services_of_a_group() -> None:
    (lease,) = read(FULL.encode())
    per_block = 2 * 10_000 + Fraction(1, 2)  # millionths of a dollar
    assert lease.dollars(HOUR, Fraction(7)) == per_block * 600 / 10**6
    assert lease.dollars(MONTH, Fraction(7)) == 720 * lease.dollars(HOUR, Fraction(7))


def test_price__uakt_by_what_an_akt_is_worth() -> None:
    (dollars,) = read(SMALL.encode())
    (akt,) = read(changed(SMALL, "uact", "uakt"))
    assert akt.dollars(HOUR, Fraction(1)) == dollars.dollars(HOUR, Fraction(1))
    assert akt.dollars(HOUR, Fraction(1, 4)) * 4 == dollars.dollars(HOUR, Fraction(1, 4))


@settings(max_examples=budget.of(300, 1_000), deadline=None)
@given(
    st.decimals(min_value="0.000001", max_value=10**7, places=6),
    st.integers(1, 50),
    st.fractions(min_value=Fraction(1, 1_000), max_value=100),
    st.sampled_from([10**6, 10**18]),
    st.integers(1, 10 * 365 * 86_400),
    st.sampled_from(["uakt", "uact"]),
)
def test_total__what_is_shown_is_at_least_what_the_rate_charges(
    amount: Decimal, count: int, akt: Fraction, unit: int, seconds: int, denom: str
) -> None:
    lease = replace(CHEAP, denom=denom, atto=count * price_atto(f"{amount:f}"))
    charged = lease.max_rate(unit, akt) * seconds
    shown = lease.dollars(seconds, akt) * unit
    assert charged <= shown < charged + seconds
