# SPDX-License-Identifier: Apache-2.0
"""A stranger's URI reaches public places and nothing that only this machine can reach."""

from __future__ import annotations

import hashlib
import socket
import threading
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.access import Access
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Named
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import fetch, open_store
from teraproof.storage.uris import parse
from teraproof.storage.web import Web
from tests.storage import faulty_server as faulty

DATA = b"what only this machine may read"
NAMED = Named(hashlib.sha256(DATA).hexdigest(), len(DATA))
ONE = Reach.of_strangers([ip_network("127.0.0.1/32")], plain=True)
LIMITS = Limits(tries=1)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1%1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
        "2001:db8::1",
    ],
)
def test_addresses_that_are_not_public__are_refused_to_strangers(address: str) -> None:
    assert not Reach.of_strangers().admits(address)
    assert Reach.own().admits(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses__are_admitted(address: str) -> None:
    assert Reach.of_strangers().admits(address)


def test_networks_of_the_owner__are_admitted_and_no_others() -> None:
    reach = Reach.of_strangers([ip_network("10.1.0.0/16"), ip_network("fd00::/64")])
    assert reach.admits("10.1.2.3") and reach.admits("fd00::5")
    assert not reach.admits("10.2.0.1") and not reach.admits("fd01::5")
    assert not reach.admits("169.254.169.254")


def test_this_machines_own_address__is_refused_even_if_it_is_public(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No machine of the tests has a public address, so what is asked is only whether it is ours."""
    from teraproof.storage import reach

    monkeypatch.setattr(reach, "_is_public", lambda _: True)
    assert not Reach.of_strangers().admits("127.0.0.1")
    assert Reach.of_strangers().admits("1.1.1.1")


@pytest.mark.parametrize(
    ("uri", "admitted"),
    [
        ("https://example.org/a", True),
        ("https://example.org:8443/a", True),
        ("s3://bucket/a", True),
        ("http://example.org/a", False),
        ("file:///etc/passwd", False),
        ("https://example.org:22/a", False),
        ("https://example.org:25/a", False),
    ],
)
def test_schemes_and_ports__of_strangers(uri: str, admitted: bool) -> None:
    if admitted:
        Reach.of_strangers().check(parse(uri))
        return
    with pytest.raises(LocalError) as caught:
        Reach.of_strangers().check(parse(uri))
    assert caught.value.code == Code.URI_REFUSED


def attempt(uri: str, target: Path, reach: Reach, access: Access | None = None) -> None:
    store = open_store(parse(uri), reach, LIMITS, access)
    try:
        fetch(store, "", NAMED, target, LIMITS)
    finally:
        store.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "2130706433", "0x7f.1"])
def test_this_machine__hears_nothing_of_a_strangers_uri(host: str, tmp_path: Path) -> None:
    with faulty.serving(DATA) as server:
        uri = f"http://{host}:{server.server_address[1]}/secret"
        with pytest.raises(LocalError) as caught:
            attempt(uri, tmp_path / "got", Reach.of_strangers(plain=True))
        assert caught.value.code == Code.URI_REFUSED
        assert server.asked == []
        attempt(f"{server.url}/", tmp_path / "got", Reach.own())


def test_redirect_to_an_address_that_is_not_admitted__is_not_followed(tmp_path: Path) -> None:
    with faulty.serving(DATA) as inside, faulty.serving(DATA, host="127.0.0.2") as other:
        inside.fault = faulty.redirecting(lambda: f"{other.url}/metadata")
        with pytest.raises(LocalError) as caught:
            attempt(inside.url, tmp_path / "got", ONE)
        assert caught.value.code == Code.URI_REFUSED
        assert other.asked == [] and len(inside.asked) == 1
        inside.fault = faulty.redirecting(lambda: "file:///etc/hostname")
        with pytest.raises(LocalError) as caught:
            attempt(inside.url, tmp_path / "got", ONE)
        assert caught.value.code == Code.URI_REFUSED
        inside.fault = faulty.honest
        attempt(inside.url, tmp_path / "got", ONE)
    assert (tmp_path / "got").read_bytes() == DATA


def test_a_name_that_changes_its_address_after_the_check__is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of the tests resolve nowhere, so the resolver is played: 127.0.0.1, then 127.0.0.2."""
    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *more: int, **named: int) -> object:
        return real(next(answers) if host == "rebind.test" else host, port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with faulty.serving(DATA) as admitted, faulty.serving(DATA, host="127.0.0.2") as private:
        port = admitted.server_address[1]
        attempt(f"http://rebind.test:{port}/", tmp_path / "got", ONE)
        assert len(admitted.asked) == 1 and next(answers) == "127.0.0.2"
        with pytest.raises(LocalError) as caught:
            attempt(f"http://rebind.test:{private.server_address[1]}/", tmp_path / "other", ONE)
        assert caught.value.code == Code.URI_REFUSED and private.asked == []


def test_endpoint_of_s3__is_judged_like_any_other_place(tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    with faulty.serving(DATA) as server:
        access = Access("key", "secret", endpoint=parse(server.url))
        with pytest.raises(LocalError) as caught:
            attempt("s3://bucket/a", tmp_path / "got", Reach.of_strangers(plain=True), access)
        assert caught.value.code == Code.URI_REFUSED
        with pytest.raises(LocalError) as caught:
            attempt("s3://bucket/a", tmp_path / "got", Reach.of_strangers(), access)
        assert caught.value.code == Code.URI_REFUSED
        assert server.asked == []


def test_name_that_does_not_resolve__one_line(tmp_path: Path) -> None:
    with pytest.raises(LocalError) as caught:
        attempt("https://nowhere.invalid/a", tmp_path / "got", Reach.of_strangers())
    assert caught.value.code in (Code.STORE_UNREACHABLE, Code.TOO_SLOW)


def test_http_of_strangers__stays_in_the_networks_that_the_owner_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from teraproof.storage import reach

    where: list[str] = []
    monkeypatch.setattr(reach, "_look_up", lambda *_: where)
    home = [ip_network("10.1.0.0/16")]
    inside = Reach.of_strangers(home, plain_inside=True)
    inside.check(parse("http://store.example:9000/a"))
    where[:] = ["1.1.1.1"]
    assert list(inside.resolve("store.example", 443, 1.0)) == where
    with pytest.raises(LocalError) as caught:
        inside.resolve_plain("store.example", 9000, 1.0)
    assert caught.value.code == Code.URI_REFUSED
    where[:] = ["1.1.1.1", "10.1.2.3"]
    assert list(inside.resolve_plain("store.example", 9000, 1.0)) == ["10.1.2.3"]
    assert list(Reach.of_strangers(home, plain=True).resolve_plain("a", 80, 1.0)) == where
    with pytest.raises(LocalError):
        Reach.of_strangers(plain_inside=True).check(parse("http://store.example:9000/a"))


def test_http_to_this_machine__no_connection_where_only_tls_may_leave() -> None:
    """By the same way as every request: the rule holds for the connection, not for the name."""
    tls_alone = Reach(frozenset({"http"}), anywhere=False, plain_elsewhere=False)
    with faulty.serving(DATA) as server:
        for networks, admitted in (([ip_network("127.0.0.1/32")], True), ([], False)):
            web = Web(replace(tls_alone, networks=tuple(networks)), LIMITS)
            try:
                with web.ask("GET", parse(server.url)) as answer:
                    assert admitted and answer.status == 200
            except LocalError as error:
                assert not admitted and error.code == Code.URI_REFUSED
            finally:
                web.close()


def test_cut_off__who_waits_for_a_silent_store_hears_it_at_once() -> None:
    heard: list[LocalError] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        web = Web(Reach.own(), Limits(grace_seconds=3_600))

        def ask() -> None:
            try:
                with web.ask("GET", parse(f"http://127.0.0.1:{server.getsockname()[1]}/a")):
                    pass
            except LocalError as error:
                heard.append(error)

        waiting = threading.Thread(target=ask, daemon=True)
        waiting.start()
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1)  # it has asked, and waits for the answer
            web.cut_off()
            waiting.join(60)
    assert not waiting.is_alive() and heard[0].code == Code.STORE_UNREACHABLE
