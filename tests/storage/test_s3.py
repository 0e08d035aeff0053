# SPDX-License-Identifier: Apache-2.0
"""S3: parts that go on after a break, one writer of a name, pages of lists, and no secret shown."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import signal
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.access import Access
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Named, Source
from teraproof.storage.reach import Reach
from teraproof.storage.s3_store import S3Store
from teraproof.storage.transfer import fetch, open_store, send
from teraproof.storage.uris import parse
from teraproof.storage.web import Web
from tests.storage import faulty_server as faulty
from tests.storage.s3 import KEY_ID, PART, SECRET, TOKEN, Place

DATA = random.Random(4).randbytes(PART * 2 + 12_345)
NAMED = Named(hashlib.sha256(DATA).hexdigest(), len(DATA))
LIMITS = Limits(tries=1)


def large(folder: Path, data: bytes = DATA) -> Source:
    file = folder / "large"
    file.write_bytes(data)
    return Source.of_file(file)


def test_small__arrives_is_there_and_goes(s3: Place, tmp_path: Path) -> None:
    store = s3.open("run")
    assert store.size("a/b") is None
    assert send(store, "a/b", Source.of_bytes(b"hello"), LIMITS)
    assert s3.body("run/a/b") == b"hello" and store.size("a/b") == 5
    fetch(store, "a/b", Source.of_bytes(b"hello").named, tmp_path / "got", LIMITS)
    assert (tmp_path / "got").read_bytes() == b"hello"
    store.delete("a/b")
    store.delete("a/b")
    assert store.size("a/b") is None
    with pytest.raises(LocalError) as caught:
        fetch(store, "a/b", Source.of_bytes(b"hello").named, tmp_path / "other", LIMITS)
    assert caught.value.code == Code.OBJECT_MISSING


def test_empty__arrives(s3: Place) -> None:
    store = s3.open("run")
    assert send(store, "empty", Source.of_bytes(b""), LIMITS)
    assert store.size("empty") == 0


def test_new__the_first_one_stays(s3: Place) -> None:
    store = s3.open()
    assert send(store, "name", Source.of_bytes(b"first"), LIMITS, new=True)
    assert not send(store, "name", Source.of_bytes(b"second"), LIMITS, new=True)
    assert s3.body("name") == b"first"


def test_keys__all_pages_and_nothing_deeper(s3: Place) -> None:
    store = s3.open("run")
    names = [f"n{number}" for number in range(8)] + ["with blank+plus%41"]
    for name in names:
        send(store, f"list/{name}", Source.of_bytes(b"x"), LIMITS)
    send(store, "list/deeper/not", Source.of_bytes(b"x"), LIMITS)
    send(s3.open(), "list/other", Source.of_bytes(b"x"), LIMITS)
    assert sorted(store.keys("list/")) == sorted(names)
    assert s3.asked["ListObjectsV2"] > 2
    assert list(store.keys("nothing/")) == []


def test_large__goes_in_parts_and_a_range_goes_on(s3: Place, tmp_path: Path) -> None:
    store = s3.open("run")
    send(store, "large", large(tmp_path), LIMITS)
    assert s3.asked["UploadPart"] == 3
    assert s3.body("run/large") == DATA
    (tmp_path / "got.part").write_bytes(DATA[:7_000_000])
    fetch(store, "large", NAMED, tmp_path / "got", LIMITS)
    assert (tmp_path / "got").read_bytes() == DATA


def test_killed_after_a_part__only_the_rest_is_sent(s3: Place, tmp_path: Path) -> None:
    source = large(tmp_path)
    store = s3.open("run")
    child = os.fork()
    if child == 0:
        done = [0]

        def stop(**_: object) -> None:
            done[0] += 1
            if done[0] == 3:  # two are there
                os.kill(os.getpid(), signal.SIGKILL)

        store._client.meta.events.register("before-send.s3.UploadPart", stop, "stop")
        store._client.meta.events.unregister("before-send.s3", None)
        # Handlers of the longer name come first.
        send(store, "large", source, LIMITS)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert store.size("large") is None, "what is not complete is not there"
    send(s3.open("run"), "large", source, LIMITS)
    assert s3.asked["UploadPart"] == 1 and s3.body("run/large") == DATA
    left = s3.client.list_multipart_uploads(Bucket=s3.bucket)
    assert "Uploads" not in left


def test_an_upload_of_other_bytes__is_not_continued(s3: Place, tmp_path: Path) -> None:
    begun = s3.client.create_multipart_upload(Bucket=s3.bucket, Key="run/large")
    s3.client.upload_part(
        Bucket=s3.bucket,
        Key="run/large",
        UploadId=begun["UploadId"],
        PartNumber=1,
        Body=b"\0" * PART,
    )
    send(s3.open("run"), "large", large(tmp_path), LIMITS)
    assert s3.body("run/large") == DATA and s3.asked["UploadPart"] == 3


def test_deleted__the_parts_of_a_broken_upload_go_too(s3: Place) -> None:
    for key in ("run/large", "run/large-other"):
        s3.client.create_multipart_upload(Bucket=s3.bucket, Key=key)
    s3.open("run").delete("large")
    left = s3.client.list_multipart_uploads(Bucket=s3.bucket)["Uploads"]
    assert [each["Key"] for each in left] == ["run/large-other"]


def test_a_file_that_changes_between_parts__is_never_completed(s3: Place, tmp_path: Path) -> None:
    source = large(tmp_path)
    (tmp_path / "large").write_bytes(DATA[:-1] + b"?")
    store = s3.open("run")
    with pytest.raises(LocalError) as caught:
        send(store, "large", source, LIMITS)
    assert caught.value.code == Code.DIGEST_MISMATCH
    assert store.size("large") is None


def test_wrong_bytes_in_the_store__are_not_used(s3: Place, tmp_path: Path) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key="a", Body=b"other")
    with pytest.raises(LocalError) as caught:
        fetch(s3.open(), "a", Source.of_bytes(b"hello").named, tmp_path / "got", LIMITS)
    assert caught.value.code == Code.DIGEST_MISMATCH
    assert not (tmp_path / "got").exists()


def test_no_bucket__one_line(s3: Place) -> None:
    store = open_store(parse("s3://no-such-bucket/a"), Reach.own(), LIMITS, s3.access)
    with pytest.raises(LocalError) as caught:
        list(store.keys("x/"))
    assert caught.value.code == Code.OBJECT_MISSING and "\n" not in str(caught.value)


def test_secrets__are_in_no_error_and_no_log(
    s3: Place, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("botocore").setLevel(logging.NOTSET)
    with faulty.serving(b"", faulty.status(403)) as server:
        access = Access(KEY_ID, SECRET, TOKEN, endpoint=parse(server.url))
        store = open_store(parse("s3://bucket/a"), Reach.own(), LIMITS, access)
        with pytest.raises(LocalError) as caught:
            store.size("")
        assert caught.value.code == Code.STORE_REFUSED and "credentials" in str(caught.value)
        with pytest.raises(LocalError) as written:
            fetch(store, "", Source.of_bytes(b"x").named, tmp_path / "got", LIMITS)
        assert server.asked
    shown = f"{caught.value!r} {caught.value.details} {written.value!r} {access!r} {caplog.text}"
    assert "HUSH" not in shown


def test_a_store_that_answers_nonsense__one_line(tmp_path: Path) -> None:
    with faulty.serving(b"<not xml", faulty.honest) as server:
        access = Access(KEY_ID, SECRET, endpoint=parse(server.url))
        store = open_store(parse("s3://bucket/a"), Reach.own(), LIMITS, access)
        with pytest.raises(LocalError) as caught:
            list(store.keys(""))
        assert caught.value.code in (Code.STORE_REFUSED, Code.STORE_UNREACHABLE)
        assert "xml" not in str(caught.value)


def test_a_store_that_floods__is_cut_off(tmp_path: Path) -> None:
    with faulty.serving(b"x" * (1 << 20), faulty.endless) as server:
        access = Access(KEY_ID, SECRET, endpoint=parse(server.url))
        store = open_store(parse("s3://bucket/a"), Reach.own(), LIMITS, access)
        with pytest.raises(LocalError) as caught:
            list(store.keys(""))
        assert caught.value.code == Code.STORE_REFUSED


def test_a_store_that_drips__is_too_slow() -> None:
    with faulty.serving(b"x" * 10_000, faulty.dripping) as server:
        access = Access(KEY_ID, SECRET, endpoint=parse(server.url))
        limits = Limits(grace_seconds=0.5, least_rate=1 << 30, tries=1)
        store = open_store(parse("s3://bucket/a"), Reach.own(), limits, access)
        with pytest.raises(LocalError) as caught:
            list(store.keys(""))
        assert caught.value.code == Code.TOO_SLOW


def page(names: int) -> bytes:
    """A list of what a bucket has that says there is more."""
    keys = "".join(f"<Contents><Key>a/{number}</Key></Contents>" for number in range(names))
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    return f"<ListBucketResult>{more}{keys}</ListBucketResult>".encode()


@pytest.mark.parametrize(
    ("names", "limits", "code"),
    [
        (10, Limits(tries=1, most_names=55), Code.LIMIT_EXCEEDED),
        (1, Limits(tries=1), Code.LIMIT_EXCEEDED),
        (0, Limits(tries=1), Code.LIMIT_EXCEEDED),
        (0, Limits(tries=1, grace_seconds=0.3), Code.TOO_SLOW),
    ],
)
def test_a_list_without_end__is_cut_off(
    names: int, limits: Limits, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code is Code.LIMIT_EXCEEDED:
        monkeypatch.setattr("teraproof.storage.s3_store._MOST_LISTS", 20)
    with faulty.serving(page(names), faulty.honest) as server:
        access = Access(KEY_ID, SECRET, endpoint=parse(server.url))
        store = open_store(parse("s3://bucket/a"), Reach.own(), limits, access)
        with pytest.raises(LocalError) as caught:
            list(store.keys(""))
        assert caught.value.code == code


def test_parts_without_end__are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teraproof.storage.s3_store._MOST_LISTS", 20)
    begun = (
        b"<ListMultipartUploadsResult><Upload><Key>a</Key><UploadId>u</UploadId>"
        b"<Initiated>2026-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>"
    )
    parts = (
        b"<ListPartsResult><IsTruncated>true</IsTruncated>"
        b"<NextPartNumberMarker>1</NextPartNumberMarker></ListPartsResult>"
    )

    def endless(handler: faulty.Handler, _: bytes) -> None:
        faulty.honest(handler, parts if "uploadId" in handler.path else begun)

    with faulty.serving(b"", endless) as server:
        access = Access(KEY_ID, SECRET, endpoint=parse(server.url))
        web = Web(Reach.own(), LIMITS)
        store = S3Store(parse("s3://bucket/a"), web, access, PART)
        with pytest.raises(LocalError) as caught:
            store.write("", large(tmp_path))
        assert caught.value.code == Code.STORE_REFUSED
        assert len(server.asked) < 30


def test_nothing_but_what_is_given__says_who_we_are(
    s3: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert send(s3.open(), "a", Source.of_bytes(b"x"), LIMITS)
    s3.client.put_object_acl(Bucket=s3.bucket, Key="a", ACL="public-read")
    open_bucket = Access(endpoint=s3.access.endpoint)
    store = open_store(parse(f"{s3.uri}/a"), Reach.own(), LIMITS, open_bucket)
    assert store.size("") == 1
