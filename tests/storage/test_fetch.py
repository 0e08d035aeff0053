# SPDX-License-Identifier: Apache-2.0
"""Fetching by URI, sha256 and size: it goes on after breaks, and nothing wrong is ever used."""

from __future__ import annotations

import hashlib
import os
import random
import ssl
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Named, Source
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import fetch, open_store, send
from teraproof.storage.uris import parse
from tests.storage import faulty_server as faulty
from tests.storage.certificate import make_certificate

DATA = random.Random(1).randbytes(300_000)
NAMED = Named(hashlib.sha256(DATA).hexdigest(), len(DATA))
FAST = Limits(grace_seconds=20, tries=4)
IMPATIENT = Limits(grace_seconds=0.5, least_rate=1 << 30, tries=1)


def got(
    url: str, target: Path, named: Named = NAMED, limits: Limits = FAST, ca_file: Path | None = None
) -> bytes:
    store = open_store(parse(url), Reach.own(), limits, ca_file=ca_file)
    try:
        fetch(store, "", named, target, limits)
    finally:
        store.close()
    return target.read_bytes()


def refused(code: Code, url: str, target: Path, **more: object) -> LocalError:
    with pytest.raises(LocalError) as caught:
        got(url, target, **more)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert not target.exists()
    return caught.value


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "object"


def test_honest__the_bytes_and_nothing_else_in_the_folder(target: Path) -> None:
    with faulty.serving(DATA) as server:
        assert got(f"{server.url}/data", target) == DATA
    assert [path.name for path in target.parent.iterdir()] == ["object"]


def test_empty_object(target: Path) -> None:
    with faulty.serving(b"") as server:
        assert got(server.url, target, Named(hashlib.sha256(b"").hexdigest(), 0)) == b""


def test_cut_three_times__goes_on_where_it_was(target: Path) -> None:
    with faulty.serving(DATA, faulty.cutting(0.5, 3)) as server:
        assert got(server.url, target) == DATA
        starts = [int(asked[6:-1]) if asked else 0 for _, asked in server.asked]
    assert starts == sorted(starts) and len(set(starts)) == 4, "no byte was asked for twice"


def test_cut_without_end__is_given_up_and_the_next_call_goes_on(target: Path) -> None:
    with faulty.serving(DATA, faulty.cutting(0.0, 10**6)) as server:
        error = refused(Code.STORE_UNREACHABLE, server.url, target, limits=Limits(tries=2))
        assert error.retryable
        server.fault = faulty.cutting(0.9, 1, faulty.status(503))
        refused(Code.STORE_UNREACHABLE, server.url, target, limits=Limits(tries=2))
        held = target.with_name("object.part").stat().st_size
        server.fault = faulty.honest
        assert got(server.url, target) == DATA
        assert held > 0 and server.asked[-1][1] == f"bytes={held}-"


@pytest.mark.parametrize("fault", [faulty.dripping, faulty.dripping_headers])
def test_a_byte_now_and_then__is_too_slow(fault: faulty.Fault, target: Path) -> None:
    with faulty.serving(DATA, fault) as server:
        refused(Code.TOO_SLOW, server.url, target, limits=IMPATIENT)


def test_wrong_bytes__are_refused_and_not_kept(target: Path) -> None:
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with faulty.serving(wrong) as server:
        refused(Code.DIGEST_MISMATCH, server.url, target)
        assert len(server.asked) == 1, "asking again would not help"
    assert target.with_name("object.part").stat().st_size == 0


@pytest.mark.parametrize("other", [DATA[:-1], DATA + b"x"], ids=["shorter", "longer"])
def test_another_size__is_refused_at_once(other: bytes, target: Path) -> None:
    with faulty.serving(other) as server:
        refused(Code.DIGEST_MISMATCH, server.url, target)


def test_a_stream_without_end__stops_at_the_size_that_was_named(target: Path) -> None:
    with faulty.serving(DATA, faulty.endless) as server:
        refused(Code.DIGEST_MISMATCH, server.url, target)
    assert target.with_name("object.part").stat().st_size <= len(DATA)


def test_no_ranges__begins_again(target: Path) -> None:
    fault = faulty.cutting(0.5, 1, faulty.without_ranges)
    with faulty.serving(DATA, fault) as server:
        assert got(server.url, target) == DATA


def test_another_part_than_asked_for__is_refused(target: Path) -> None:
    target.with_name("object.part").write_bytes(DATA[:1000])
    with faulty.serving(DATA, faulty.wrong_part) as server:
        # The part begins at 0, so it is taken from there.
        assert got(server.url, target) == DATA


def test_changed_while_resuming__old_and_new_bytes_are_never_mixed(target: Path) -> None:
    old = random.Random(2).randbytes(len(DATA))
    with faulty.serving(old, faulty.cutting(0.5, 1, faulty.status(503))) as server:
        refused(Code.STORE_UNREACHABLE, server.url, target, limits=Limits(tries=2))
        server.data, server.fault = DATA, faulty.honest
        assert got(server.url, target) == DATA


def test_changed_within_one_call__is_found_and_fetched_again(target: Path) -> None:
    with faulty.serving(random.Random(3).randbytes(len(DATA))) as server:

        def change(handler: faulty.Handler, data: bytes) -> None:
            server.data = DATA
            faulty.honest(handler, DATA)

        server.fault = faulty.cutting(0.5, 1, change)
        assert got(server.url, target) == DATA


def test_now_shorter_than_what_is_there__is_refused(target: Path) -> None:
    target.with_name("object.part").write_bytes(DATA[:-10])
    with faulty.serving(DATA[:100]) as server:
        refused(Code.DIGEST_MISMATCH, server.url, target)


def test_garbage_left_in_the_part__costs_one_more_request(target: Path) -> None:
    target.with_name("object.part").write_bytes(b"\0" * 5000)
    with faulty.serving(DATA) as server:
        assert got(server.url, target) == DATA
        assert len(server.asked) == 2


def test_part_is_a_link__nothing_is_written_through_it(target: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    target.with_name("object.part").symlink_to(victim)
    with faulty.serving(DATA) as server:
        refused(Code.INPUT_INVALID, server.url, target)
    assert victim.read_bytes() == b"precious"


def test_packed_on_the_way__is_refused(target: Path) -> None:
    with faulty.serving(DATA, faulty.packed) as server:
        refused(Code.STORE_REFUSED, server.url, target)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, Code.OBJECT_MISSING),
        (401, Code.STORE_REFUSED),
        (403, Code.STORE_REFUSED),
        (400, Code.STORE_REFUSED),
        (429, Code.STORE_UNREACHABLE),
        (503, Code.STORE_UNREACHABLE),
    ],
)
def test_status__has_its_code(status: int, code: Code, target: Path) -> None:
    with faulty.serving(DATA, faulty.status(status)) as server:
        refused(code, server.url, target, limits=Limits(tries=1))


def test_nobody_there__one_line(target: Path) -> None:
    with faulty.serving(DATA) as server:
        url = server.url
    refused(Code.STORE_UNREACHABLE, url, target, limits=Limits(tries=1))


def test_secret_in_the_query__is_sent_and_never_shown(target: Path) -> None:
    with faulty.serving(DATA, faulty.status(403)) as server:
        error = refused(Code.STORE_REFUSED, f"{server.url}/a?signature=hush", target)
        assert server.asked[0][0] == "/a?signature=hush"
    assert "hush" not in str(error) and "/a?..." in str(error)


def test_redirects__are_followed_and_end(target: Path) -> None:
    with faulty.serving(DATA) as last, faulty.serving(b"") as first:
        first.fault = faulty.redirecting(lambda: f"{last.url}/there")
        assert got(first.url, target) == DATA
        target.unlink()
        first.fault = faulty.redirecting(lambda: f"{first.url}/again")
        refused(Code.STORE_REFUSED, first.url, target)
        assert len(first.asked) == 1 + FAST.redirects + 1
        odd_ones = ["file:///etc/passwd", "gopher://x/", "http://user:hush@127.0.0.1/", "http://["]
        first.fault = faulty.redirecting(lambda: odd_ones[-1])
        while odd_ones:
            assert "hush" not in str(refused(Code.URI_REFUSED, first.url, target))
            odd_ones.pop()


def test_larger_than_allowed__nothing_is_asked_for(target: Path) -> None:
    with faulty.serving(DATA) as server:
        refused(Code.LIMIT_EXCEEDED, server.url, target, limits=Limits(most_bytes=10))
        assert server.asked == []


def test_proxies_of_the_environment__are_not_used(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with faulty.serving(DATA) as server:
        assert got(server.url, target) == DATA


def test_tls__only_with_a_certificate_that_is_trusted(target: Path, tmp_path: Path) -> None:
    authority, chain = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    with faulty.serving(DATA, tls=context) as server:
        error = refused(Code.STORE_UNREACHABLE, server.url, target, limits=Limits(tries=1))
        assert "certificate" in str(error)
        assert got(server.url, target, ca_file=authority) == DATA


def test_memory__does_not_grow_with_the_object(target: Path) -> None:
    data = os.urandom(1 << 20) * 48
    named = Named(hashlib.sha256(data).hexdigest(), len(data))
    with faulty.serving(data) as server:
        tracemalloc.start()
        try:
            store = open_store(parse(server.url), Reach.own(), FAST)
            fetch(store, "", named, target, FAST)
            store.close()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 << 20, "the server's own view of the data is not a copy"


def test_two_at_once__the_second_one_is_refused(target: Path) -> None:
    with faulty.serving(DATA) as server:

        def meanwhile(handler: faulty.Handler, data: bytes) -> None:
            server.fault = faulty.honest
            refused(Code.COMMAND_RUNNING, server.url, target)
            faulty.honest(handler, data)

        server.fault = meanwhile
        assert got(server.url, target) == DATA


def test_file__goes_on_and_is_verified(target: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    target.with_name("object.part").write_bytes(DATA[:1234])
    assert got(f"file://{source}", target) == DATA
    target.unlink()
    source.write_bytes(DATA[1:] + b"x")
    refused(Code.DIGEST_MISMATCH, f"file://{source}", target)
    source.unlink()
    refused(Code.OBJECT_MISSING, f"file://{source}", target)


# ---------------------------------------------------------------- sending


def sent(url: str, source: Source, new: bool = False) -> bool:
    store = open_store(parse(url), Reach.own(), FAST)
    try:
        return send(store, "", source, FAST, new=new)
    finally:
        store.close()


@dataclass
class Place:
    """Somewhere to send to, and what has arrived there."""

    uri: str
    read: Callable[[], bytes | None]


@pytest.fixture(params=["file", "http"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    there = tmp_path / "deep" / "there"
    with faulty.serving(b"") as server:
        if request.param == "http":
            yield Place(f"{server.url}/new", lambda: server.put.get("/new"))
        else:
            yield Place(f"file://{there}", lambda: there.read_bytes() if there.exists() else None)


def test_send__all_of_it_and_not_over_another(tmp_path: Path, place: Place) -> None:
    file = tmp_path / "source"
    file.write_bytes(DATA)
    assert sent(place.uri, Source.of_file(file), new=True)
    assert place.read() == DATA
    assert not sent(place.uri, Source.of_bytes(b"other"), new=True)
    assert place.read() == DATA
    assert sent(place.uri, Source.of_bytes(b"other"))
    assert place.read() == b"other"


def test_send__a_file_that_changed_meanwhile_never_arrives(tmp_path: Path, place: Place) -> None:
    file = tmp_path / "source"
    file.write_bytes(DATA)
    source = Source.of_file(file)
    file.write_bytes(DATA[::-1])
    with pytest.raises(LocalError) as caught:
        sent(place.uri, source)
    assert caught.value.code == Code.DIGEST_MISMATCH
    assert place.read() is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
