# SPDX-License-Identifier: Apache-2.0
"""What is not valid SDL, or not sold here, is refused where it stands, with what to do instead."""

from __future__ import annotations

import re

import pytest

from teraproof.protocol.errors import Code
from teraproof.sdl.faults import MOST, Fault, SdlError
from teraproof.sdl.leases import examine, read
from teraproof.sdl.stack import Credentials
from tests.support.codes import fails_as
from tests.support.sdl import FILES, FULL, SMALL, changed, line_of


def faults(data: bytes) -> list[Fault]:
    examined = examine(data)
    assert not examined.leases
    return list(examined.faults)


def only(data: bytes, code: Code = Code.SDL_INVALID) -> Fault:
    found = faults(data)
    assert [fault.code for fault in found] == [code], found
    return found[0]


SERVICE = "services.page."
EXPOSE = "services.page.expose[0]."
RESOURCES = "profiles.compute.page.resources."
PRICE = "profiles.placement.anywhere.pricing.page."
DEPLOYMENT = "deployment:\n  page:\n    anywhere:\n      profile: page\n      count: 1\n"
NOBODY = "      - port: 80\n        to:\n          - global: true\n"
TWO = "[{size: 1Gi, name: a}, {size: 1Gi, name: b}]"


@pytest.mark.parametrize(
    ("old", "new", "path", "reason"),
    [
        # Unknown fields, on every storey.
        ("services:", "unknown: 1\nservices:", "unknown", "unknown field"),
        ("    image:", "    immage: x\n    image:", SERVICE + "immage", "unknown field"),
        ("      - port: 80", "      - port: 80\n        host: x", EXPOSE + "host", "unknown field"),
        ("          - global: true", "          - global: true\n            x: 1", "", "unknown"),
        ("          size: 512Mi", "          size: 512Mi\n          x: 1", "", "unknown field"),
        ("      count: 1", "      count: 1\n      x: 1", "deployment.page.anywhere.x", "unknown"),
        # Missing ones.
        ("    image: nginx:1.29\n", "    env: []\n", SERVICE + "image", "missing"),
        ("          denom: uact\n", "", PRICE + "denom", "missing"),
        ("      profile: page\n", "", "deployment.page.anywhere.profile", "missing"),
        # Twice the same, and names that no one else has.
        ("    image:", "    image: a\n    image:", SERVICE + "image", "stands twice"),
        ("services:\n  page:", "services:\n  Page:", "services.Page", "not a name for a service"),
        # Texts that YAML takes for something else.
        ('version: "2.1"', "version: 2.1", "version", 'write "2.1"'),
        ("image: nginx:1.29", "image: 12", SERVICE + "image", 'write "12"'),
        ("image: nginx:1.29", "image: null", SERVICE + "image", 'write "null"'),
        ("image: nginx:1.29", "image:", SERVICE + "image", "nothing is written"),
        ("image: nginx:1.29", "image: [nginx]", SERVICE + "image", "a list stands here"),
        ("image: nginx:1.29", "image: {a: b}", SERVICE + "image", "a mapping stands here"),
        ("size: 1Gi", "size: 1073741824", RESOURCES + "storage.size", 'write "1073741824"'),
        # Versions.
        ('version: "2.1"', 'version: "2.2"', "version", "2.0 or 2.1"),
        ('version: "2.1"', 'version: "3"', "version", "2.0 or 2.1"),
        # Numbers.
        ("units: 0.5", "units: 1e3", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: .nan", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: .inf", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: -1", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: +1", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: 0x10", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: 1_000", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: 0.0005", RESOURCES + "cpu.units", "a thousandth of a core"),
        ("units: 0.5", "units: 0", RESOURCES + "cpu.units", "out of bounds"),
        ("units: 0.5", "units: 9m", RESOURCES + "cpu.units", "out of bounds"),
        ("units: 0.5", "units: 0.5m", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: 99999999999999999999", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: \u0661", RESOURCES + "cpu.units", "not an amount"),
        ("units: 0.5", "units: true", RESOURCES + "cpu.units", "not an amount"),
        ("size: 512Mi", "size: 512MB", RESOURCES + "memory.size", "not an amount"),
        ("size: 512Mi", "size: 512M", RESOURCES + "memory.size", "not an amount"),
        ("size: 512Mi", "size: 5e2Mi", RESOURCES + "memory.size", "not an amount"),
        ("size: 512Mi", "size: -1Gi", RESOURCES + "memory.size", "not an amount"),
        ("size: 512Mi", "size: 1Ki", RESOURCES + "memory.size", "out of bounds"),
        ("size: 512Mi", "size: 16Ei", RESOURCES + "memory.size", "out of bounds"),
        ("size: 512Mi", "size: 99999999Ei", RESOURCES + "memory.size", "out of bounds"),
        ("size: 512Mi", "size: 100.00000001Mi", RESOURCES + "memory.size", "number of bytes"),
        ("size: 1Gi", "size: 1K", RESOURCES + "storage.size", "not an amount"),
        ("size: 1Gi", "size: Gi", RESOURCES + "storage.size", "not an amount"),
        ("amount: 150", "amount: 1e3", PRICE + "amount", "not an amount"),
        ("amount: 150", "amount: -5", PRICE + "amount", "not an amount"),
        ("amount: 150", "amount: 0", PRICE + "amount", "out of bounds"),
        ("amount: 150", "amount: 0." + "0" * 18 + "1", PRICE + "amount", "not an amount"),
        ("amount: 150", "amount: " + "9" * 15, PRICE + "amount", "out of bounds"),
        ("amount: 150", "amount: null", PRICE + "amount", "nothing stands here"),
        ("denom: uact", "denom: eth", PRICE + "denom", "uakt or uact"),
        ("denom: uact", "denom: ibc/170C6776", PRICE + "denom", "write uact"),
        ("count: 1", "count: 0", "deployment.page.anywhere.count", "from 1 to 50"),
        ("count: 1", "count: 51", "deployment.page.anywhere.count", "from 1 to 50"),
        ("count: 1", 'count: "1"', "deployment.page.anywhere.count", "without quotes"),
        ("count: 1", "count: 1.0", "deployment.page.anywhere.count", "a whole number"),
        ("count: 1", "count: 01", "deployment.page.anywhere.count", "a whole number"),
        # Ports and truth.
        ("port: 80", "port: 0", EXPOSE + "port", "from 1 to 65535"),
        ("port: 80", "port: 65536", EXPOSE + "port", "from 1 to 65535"),
        ("port: 80", 'port: "80"', EXPOSE + "port", "without quotes"),
        ("port: 80", "port: 80\n        proto: sctp", EXPOSE + "proto", "not known"),
        ("port: 80", "port: 80\n        as: -1", EXPOSE + "as", "a whole number"),
        ("global: true", "global: yes", EXPOSE + "to[0].global", "in lower case"),
        ("global: true", 'global: "true"', EXPOSE + "to[0].global", "without quotes"),
        ("global: true", "global: 1", EXPOSE + "to[0].global", "true or false"),
        ("- global: true", "- {}", EXPOSE + "to[0]", "nobody is named"),
        ("- global: true", "- service: other", EXPOSE + "to[0]", "no service other"),
        ("port: 80", "port: 80\n        accept: [A.com]", EXPOSE + "accept[0]", "in lower case"),
        ("port: 80", "port: 80\n        accept: [a_b.com]", EXPOSE + "accept[0]", "not allowed"),
        ("port: 80", "port: 80\n        accept: [a.com, a.com]", EXPOSE + "accept[1]", "twice"),
        ("port: 80", "port: 80\n        proto: udp\n        accept: [a.com]", "", "TCP ports"),
        # Images, arguments, variables.
        ("nginx:1.29", "NGINX", SERVICE + "image", "not allowed"),
        ("nginx:1.29", "https://x/y", SERVICE + "image", "not allowed"),
        ("nginx:1.29", "GHCR.io/a", SERVICE + "image", "not allowed"),
        ("nginx:1.29", "a" * 256, SERVICE + "image", "not allowed"),
        ("nginx:1.29", "a@sha256:12", SERVICE + "image", "not allowed"),
        ("    image:", "    args: [80]\n    image:", SERVICE + "args[0]", "write it in quotes"),
        ("    image:", "    args: sh\n    image:", SERVICE + "args", "a list is wanted"),
        ("    image:", '    args: ["\\0"]\n    image:', SERVICE + "args[0]", "not allowed"),
        ("    image:", "    env: [A]\n    image:", SERVICE + "env[0]", "without a value"),
        ("    image:", "    env: {A: b}\n    image:", SERVICE + "env", "a list is wanted"),
        ("    image:", "    env: ['=b']\n    image:", SERVICE + "env[0]", "not a name"),
        ("    image:", "    env: [A=1, A=2]\n    image:", SERVICE + "env[1]", "stands twice"),
        ("    image:", "    env: [NVIDIA_VISIBLE_DEVICES=all]\n    image:", "", "leave it out"),
        # Names that lead nowhere.
        ("profile: page", "profile: other", "deployment.page.anywhere", "no compute profile"),
        (
            "deployment:\n  page:",
            "deployment:\n  other:",
            "deployment.other.anywhere",
            "no service",
        ),
        ("    anywhere:\n      profile", "    else:\n      profile", "", "no placement"),
        (
            "        page:\n          denom",
            "        gone:\n          denom",
            "",
            "no price for page",
        ),
        # Nothing in the sections.
        (
            "deployment:\n  page:\n    anywhere:\n      profile: page\n      count: 1\n",
            "",
            "",
            "miss",
        ),
        # GPUs.
        ("  placement:", "        gpu: {units: 1}\n  placement:", RESOURCES + "gpu", "missing"),
    ],
)
def test_one_place_is_wrong__named_with_its_path(
    old: str, new: str, path: str, reason: str
) -> None:
    found = faults(changed(SMALL, old, new))
    assert found and all(fault.code is Code.SDL_INVALID for fault in found)
    named = [fault for fault in found if path.rstrip(".") in fault.place.path]
    assert any(reason in fault.reason for fault in named), found


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        ("{units: 1, attributes: {}}", "missing; it is required"),
        ("{units: 1, attributes: {vendor: }}", "a mapping is wanted"),
        ("{units: 1, attributes: {vendor: {}}}", "no vendor is named"),
        ("{units: 1, attributes: {vendor: {amd: [{model: mi300x}]}}}", "known here: nvidia"),
        ("{units: 1, attributes: {vendor: {nvidia: [{ram: 80Gi}]}}}", "missing"),
        ("{units: 1, attributes: {vendor: {nvidia: [{model: A100}]}}}", "in lower case"),
        ("{units: 1, attributes: {vendor: {nvidia: [{model: '*'}]}}}", "not allowed"),
        ("{units: 1, attributes: {vendor: {nvidia: [{model: a, ram: 80G}]}}}", "not an amount"),
        ("{units: 1, attributes: {vendor: {nvidia: [{model: a, ram: 1.5Gi}]}}}", "whole GiB"),
        ("{units: 1, attributes: {vendor: {nvidia: [{model: a, interface: x}]}}}", "pcie or sxm"),
        ("{units: 1, attributes: {vendor: {nvidia: [{model: a}, {model: a}]}}}", "twice"),
        ("{units: 0, attributes: {vendor: {nvidia: }}}", "attributes of no GPU"),
        ("{attributes: {vendor: {nvidia: }}}", "attributes of no GPU"),
        ("{units: 0.5, attributes: {vendor: {nvidia: }}}", "a whole number"),
        ("{units: 65, attributes: {vendor: {nvidia: }}}", "out of bounds"),
        ("{units: -1, attributes: {vendor: {nvidia: }}}", "not an amount"),
    ],
)
def test_gpu__not_one_that_can_be_rented(gpu: str, reason: str) -> None:
    found = faults(changed(SMALL, "  placement:", f"        gpu: {gpu}\n  placement:"))
    assert any(reason in fault.reason for fault in found), found


@pytest.mark.parametrize(
    ("storage", "mounts", "reason"),
    [
        ("[]", "{}", "no volume"),
        ("{size: 1Gi, name: data}", "{}", "stands in a list"),
        ("[{size: 1Gi}, {size: 2Gi}]", "{}", "a second volume named default"),
        ("[{size: 1Gi}, {size: 2Gi, name: b}]", "{}", "a second volume without a mount"),
        ("[{size: 1Gi, name: B}]", "{}", "not allowed"),
        ("[{size: 1Gi, attributes: {iops: 5}}]", "{}", "unknown field"),
        ("[{size: 1Gi, attributes: {class: fast}}]", "{}", "not known"),
        ("[{size: 1Gi, attributes: {class: beta2}}]", "{}", "only a persistent volume"),
        ("[{size: 1Gi, attributes: {class: ram, persistent: true}}]", "{}", "never persistent"),
        ("[{size: 1Gi, attributes: {persistent: maybe}}]", "{}", "true or false"),
        ("[{size: 1Gi, name: a, attributes: {persistent: true}}]", "{}", "has to be mounted"),
        ("[{size: 1Mi, name: a, attributes: {class: ram}}]", "{a: {mount: /dev/shm}}", "bounds"),
        ("[{size: 1Gi, name: a, attributes: {class: ram}}]", "{a: {mount: /dev/shm}}", "memory.s"),
        ("[{size: 1Gi, name: a}]", "{b: {mount: /b}}", "has no volume named b"),
        ("[{size: 1Gi, name: a}]", "{a: {}}", "missing"),
        ("[{size: 1Gi, name: a}]", "{a: {mount: ''}}", "not allowed"),
        ("[{size: 1Gi, name: a}]", "{a: {mount: data}}", "not allowed"),
        ("[{size: 1Gi, name: a}]", "{a: {mount: /}}", "not allowed"),
        ("[{size: 1Gi, name: a}]", "{a: {mount: /a/../b}}", "not allowed"),
        ("[{size: 1Gi, name: a}]", "{a: {mount: '/a:ro'}}", "not allowed"),
        ("[{size: 1Gi, name: a}]", "{a: {mount: /proc/x}}", "not allowed"),
        (
            "[{size: 1Gi, name: a}, {size: 1Gi, name: b}]",
            "{a: {mount: /x}, b: {mount: /x}}",
            "path",
        ),
        ("[{size: 1Gi, name: a}]", "{a: {mount: /a, readOnly: no}}", "true or false"),
    ],
)
def test_volumes__that_cannot_be(storage: str, mounts: str, reason: str) -> None:
    text = changed(SMALL, "storage:\n          size: 1Gi", f"storage: {storage}").decode()
    params = f"    params: {{storage: {mounts}}}\nprofiles:\n  compute"
    found = faults(changed(text, "profiles:\n  compute", params))
    assert any(reason in fault.reason for fault in found), found


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("    params:\n", "    params:\n      tee: cpu\n", "services.model.params.tee"),
        (
            "    params:\n",
            "    params:\n      tee: {type: sev-snp}\n",
            "services.model.params.tee",
        ),
        (
            "    params:\n",
            "    params:\n      permissions: {read: [logs]}\n",
            "services.model.params.permissions.read",
        ),
        (
            "          send_timeout: 0",
            "          proxy_buffer_size: 0",
            "services.model.expose[0].http_options.proxy_buffer_size",
        ),
        (
            "          mount: /weights",
            "          mount: /weights\n          keyRef: x",
            "services.model.params.storage.weights.keyRef",
        ),
        ("          mount: /dev/shm", "          mount: /cache", "storage.shm.mount"),
        (
            "            vendor:",
            "            interconnect: []\n            vendor:",
            "interconnect",
        ),
        (
            "      pricing:",
            "      verification: {min_tier: 3}\n      pricing:",
            "profiles.placement.west.verification",
        ),
        ("services:\n", "verification: {min_tier: 3}\nservices:\n", "verification"),
        ("services:\n", "include: [other.yaml]\nservices:\n", "include"),
    ],
)
def test_valid_sdl_that_is_not_sold__refused_by_name_with_what_to_do(
    old: str, new: str, path: str
) -> None:
    data = changed(FULL, old, new)
    fault = only(data, Code.SDL_UNSUPPORTED)
    assert path in fault.place.path
    assert ";" in fault.reason  # what to do instead follows
    with pytest.raises(SdlError) as refused:
        read(data)
    assert refused.value.code is Code.SDL_UNSUPPORTED


def test_proxy_buffer_size__a_file_that_akash_takes__refused() -> None:
    data = (FILES / "proxy-buffer-size.yaml").read_bytes()
    fault = only(data, Code.SDL_UNSUPPORTED)
    assert fault.place.line == line_of(data, "proxy_buffer_size")
    assert "leave proxy_buffer_size out" in fault.reason


def test_reclamation__honoured_as_the_least_notice_of_the_provider() -> None:
    (lease,) = read((FILES / "reclamation.yaml").read_bytes())
    assert lease.spec.notice_seconds == 5_400
    assert read(SMALL.encode())[0].spec.notice_seconds == 0


@pytest.mark.parametrize("window", ["1h30m", "0h", "01h", "1d", "-1h", "h", "9999h", "1 h", '""'])
def test_reclamation__no_window__refused(window: str) -> None:
    data = SMALL.encode() + f"reclamation:\n  min_window: {window}\n".encode()
    assert only(data).place.path == "reclamation.min_window"


def test_permissions__of_nothing__ask_for_nothing() -> None:
    data = changed(FULL, "    params:\n", "    params:\n      permissions: {read: []}\n")
    assert read(data)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("{max_body_size: 104857601}", "from 0 to 104857600"),
        ("{read_timeout: 60001}", "from 0 to 60000"),
        ("{send_timeout: -1}", "from 0 to 60000"),
        ("{next_tries: 1.5}", "a whole number"),
        ("{next_cases: [500]}", 'write "500"'),
        ("{next_cases: [teapot]}", "not known"),
        ("{next_cases: [off, error]}", "off excludes"),
        ("{next_cases: [error, error]}", "twice"),
        ("{next_cases: error}", "a list is wanted"),
        ("{buffer: 1}", "unknown field"),
    ],
)
def test_http_options__out_of_bounds(options: str, reason: str) -> None:
    text = changed(SMALL, "      - port: 80", f"      - port: 80\n        http_options: {options}")
    found = faults(text)
    assert any(reason in fault.reason for fault in found), found


def test_http_options__off_means_no_other_replica_is_tried() -> None:
    options = "        http_options: {next_cases: [off]}"
    (lease,) = read(changed(SMALL, "      - port: 80", f"      - port: 80\n{options}"))
    http = lease.spec.services[0].ports[0].http
    assert http is not None and http.next_cases == () and http.read_timeout_ms == 60_000


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("{host: a.com, username: me}", "missing"),
        ("{username: me, password: secret}", "missing"),
        ("{host: a.com, username: me, password: short}", "shorter than 6"),
        ("{host: a.com, username: me, password: secret, email: a@b}", "shorter than 5"),
        ("{host: 'https://a.com', username: me, password: secret}", "not allowed"),
        ("{host: a.com, username: ' ', password: secret}", "not allowed"),
    ],
)
def test_credentials__not_whole(field: str, reason: str) -> None:
    found = faults(changed(SMALL, "    image:", f"    credentials: {field}\n    image:"))
    assert any(reason in fault.reason for fault in found), found


def test_credentials__for_the_hired_provider_alone() -> None:
    (lease,) = read(FULL.encode())
    given = Credentials("ghcr.io", "reader", "not-a-secret", "reader@example.com")
    assert dict(lease.credentials) == {"model": given}
    assert lease.spec.services[0].registry == "ghcr.io"
    assert b"not-a-secret" not in lease.spec.canonical() and b"reader" not in lease.spec.canonical()
    assert "not-a-secret" not in repr(lease) + repr(given)


@pytest.mark.parametrize("secret", ["hunter2\x07hunter2", "[hunter2hunter2]", "{hunter2: hunter2}"])
def test_credentials__a_fault_does_not_repeat_the_password(secret: str) -> None:
    given = f'{{host: a.com, username: me, password: "{secret}"}}'
    if secret[0] in "[{":
        given = f"{{host: a.com, username: me, password: {secret}}}"
    found = faults(changed(SMALL, "    image:", f"    credentials: {given}\n    image:"))
    assert found and not any("hunter2hunter2" in str(fault) for fault in found)


def test_dependencies__a_circle_or_nobody__refused() -> None:
    circle = changed(
        FULL, "    image: redis@", "    dependencies: [{service: model}]\n    image: redis@"
    )
    assert {fault.reason.split(" ")[0] for fault in faults(circle)} == {"model", "store"}
    nobody = changed(
        FULL, "      - service: store\n    expose", "      - service: gone\n    expose"
    )
    assert "no service is named gone" in only(nobody).reason


def test_two_denominations_in_a_group__refused() -> None:
    data = FULL.replace("denom: uact", "denom: uakt", 1).encode()
    assert "two denominations" in only(data).reason


def test_one_host_for_two_ports__refused() -> None:
    more = "    image: redis@"
    expose = "      - port: 6379\n        to:\n          - service: model\n"
    web = "      - {port: 1, as: 80, accept: [models.example.com], to: [{global: true}]}\n"
    text = changed(FULL, expose, expose + web)
    assert more in text.decode() and "models.example.com" in only(text).reason


def test_all_faults__found_at_once_and_in_order() -> None:
    text = SMALL.replace("port: 80", "port: 0").replace("count: 1", "count: 0")
    text = text.replace("units: 0.5", "units: -1").replace("denom: uact", "denom: x")
    data = text.encode()
    found = faults(data)
    marks = ["port: 0", "units: -1", "denom: x", "count: 0"]
    assert [fault.place.line for fault in found] == [line_of(data, mark) for mark in marks]
    with fails_as(Code.SDL_INVALID) as error:
        read(data)
    assert re.match(r"line \d+, column \d+: .*\(and 3 more faults\)$", str(error.value))
    details = error.value.details["faults"]
    assert [each["line"] for each in details] == [fault.place.line for fault in found]
    assert set(details[0]) == {"line", "column", "path", "reason", "code"}


def test_thousands_of_faults__a_bounded_list() -> None:
    more = "".join(f"  x{number}: {{imagee: a}}\n" for number in range(1_000))
    found = faults(changed(SMALL, "services:\n", "services:\n" + more))
    assert 10 < len(found) <= MOST


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "      - port: 80\n        to:\n          - global: true\n",
            "      - port: 80\n",
            "nobody",
        ),
        ("deployment:", "  # more\ndeployment:", ""),
    ],
)
def test_notices__what_is_read_otherwise_than_expected_is_said(
    old: str, new: str, said: str
) -> None:
    examined = examine(changed(SMALL, old, new))
    assert examined.leases
    notices = [notice.reason for notice in examined.notices]
    assert all(said in notice for notice in notices) and bool(notices) is bool(said)


def test_notices__signers_persistent_volumes_and_what_nobody_deploys() -> None:
    spare = "    spare: {pricing: {page: {denom: uact, amount: 1}}}\n"
    text = changed(SMALL, "  placement:\n", "  placement:\n" + spare)
    assert "nobody rents it" in examine(text).notices[0].reason
    reasons = " ".join(notice.reason for notice in examine(FULL.encode()).notices)
    assert "no auditor signs" in reasons and "never moves to another provider" in reasons
