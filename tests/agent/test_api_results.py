# SPDX-License-Identifier: Apache-2.0
import hashlib
import io
import os
import re
import socket
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from provider_agent.http.limits import ApiLimits
from provider_agent.modules.jobs.documents import JobView
from teraproof.client.jobs import AgentClient
from teraproof.errors import LocalError
from teraproof.protocol.digests import Entry, encode_manifest, manifest
from teraproof.protocol.errors import Code
from tests.agent.api_rig import (
    JOB_ID,
    ORIGIN,
    STRANGER,
    TENANT,
    Rig,
    attested,
    code_of,
    http,
    seals,
    serve,
    wait_until,
)
from tests.support.codes import fails_as

OTHER_JOB = b"\x08" * 32
FILES = {
    "model.bin": os.urandom(700_000),
    "plots/loss curve.svg": b"<svg/>",
    "empty": b"",
    "é.txt": b"x",
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(Rig(tmp_path / "agent")) as running:
        yield running


def get(rig: Rig, path: str, **headers: str) -> httpx.Response:
    with rig.client() as client:
        client.login()
        headers["authorization"] = f"Bearer {client._http._token}"
    return http.get(f"{rig.url}/v1/jobs/0x{JOB_ID.hex()}{path}", headers=headers)


class Answers(httpx.BaseTransport):
    """Passes requests on and lets a test change or break the answers."""

    def __init__(self, change: Any) -> None:
        self.inner, self.change = httpx.HTTPTransport(verify=False), change

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.inner.handle_request(request)
        answer.read()
        changed = self.change(request, answer) or answer
        # A body that was read cannot be streamed again.
        if changed.is_stream_consumed:
            headers = {k: v for k, v in changed.headers.items() if k == "location"}
            changed = httpx.Response(
                changed.status_code, headers=headers, content=iter([changed.content])
            )
        return changed

    def close(self) -> None:
        self.inner.close()


def test_fetch_result__whole__equals_what_was_attested(rig: Rig, tmp_path: Path) -> None:
    digest = rig.add_result(FILES)
    target = tmp_path / "result"
    with rig.client() as client:
        listed = client.fetch_result(ORIGIN, target, digest)
        assert client.fetch_result(ORIGIN, target, digest) == listed
    assert attested(manifest(target)) == digest
    assert {e.path: e.size for e in listed} == {p: len(c) for p, c in FILES.items()}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["agent", "result"]


def test_fetch_result__no_files__empty_directory(rig: Rig, tmp_path: Path) -> None:
    digest = rig.add_result({})
    with rig.client() as client:
        assert client.fetch_result(ORIGIN, tmp_path / "result", digest) == []
    assert list((tmp_path / "result").iterdir()) == []


def test_fetch_result__not_the_attested_one__nothing_written(rig: Rig, tmp_path: Path) -> None:
    rig.add_result(FILES)
    with rig.client() as client, fails_as(Code.RESULT_MISMATCH):
        client.fetch_result(ORIGIN, tmp_path / "result", bytes(32))
    assert not (tmp_path / "result").exists()


def test_fetch_result__target_holds_something_else__refused(rig: Rig, tmp_path: Path) -> None:
    digest = rig.add_result(FILES)
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "mine").touch()
    with rig.client() as client, fails_as(Code.INPUT_INVALID):
        client.fetch_result(ORIGIN, tmp_path / "result", digest)
    assert (tmp_path / "result" / "mine").exists()


def test_fetch_result__too_large__refused_before_download(rig: Rig, tmp_path: Path) -> None:
    digest = rig.add_result(FILES)
    with rig.client() as client, fails_as(Code.RESULT_MISMATCH):
        client.fetch_result(ORIGIN, tmp_path / "result", digest, max_bytes=1_000)


def test_fetch_result__error_without_end__bounded(rig: Rig, tmp_path: Path) -> None:
    digest = rig.add_result(FILES)
    sent = [0]

    def endless(request: httpx.Request, answer: httpx.Response) -> httpx.Response | None:
        def pieces() -> Iterator[bytes]:
            while True:
                sent[0] += 1
                yield bytes(1 << 16)

        return httpx.Response(404, content=pieces()) if "model" in request.url.path else None

    with rig.client(transport=Answers(endless)) as client, fails_as(Code.ANSWER_INVALID):
        client.fetch_result(ORIGIN, tmp_path / "result", digest)
    assert sent[0] < 100


def test_fetch_result__interrupted__goes_on_where_it_was(rig: Rig, tmp_path: Path) -> None:
    digest = rig.add_result(FILES)
    asked: list[str | None] = []

    def breaks(request: httpx.Request, answer: httpx.Response) -> httpx.Response | None:
        if "model.bin" not in request.url.path:
            return None
        asked.append(request.headers.get("range"))
        if len(asked) > 2:
            return None

        def half() -> Iterator[bytes]:
            yield answer.content[: len(answer.content) // 2]
            raise httpx.ReadError("broken")

        return httpx.Response(answer.status_code, content=half())

    with rig.client(transport=Answers(breaks)) as client:
        client.fetch_result(ORIGIN, tmp_path / "result", digest)
    assert asked == [None, "bytes=350000-", "bytes=525000-"]
    assert attested(manifest(tmp_path / "result")) == digest


def test_fetch_result__left_overs_of_another_result__replaced(rig: Rig, tmp_path: Path) -> None:
    digest = rig.add_result(FILES)
    partial = tmp_path / "result.partial"
    (partial / "files" / "plots").mkdir(parents=True)
    (partial / "files" / "old" / "deep").mkdir(parents=True)
    (partial / "files" / "old" / "deep" / "file").write_bytes(b"old")
    (partial / "files" / "model.bin").write_bytes(b"wrong")
    (partial / "parts").mkdir()
    name = hashlib.sha256(FILES["model.bin"]).hexdigest()
    (partial / "parts" / name).write_bytes(b"wrong start")
    with rig.client() as client:
        client.fetch_result(ORIGIN, tmp_path / "result", digest)
    assert attested(manifest(tmp_path / "result")) == digest
    assert not partial.exists()


@pytest.mark.parametrize("wrong", [b"short", b"z" * 700_000, b"z" * 900_000], ids=len)
def test_fetch_result__provider_sends_other_bytes__refused(
    rig: Rig, tmp_path: Path, wrong: bytes
) -> None:
    digest = rig.add_result(FILES)

    def lie(request: httpx.Request, answer: httpx.Response) -> httpx.Response | None:
        return httpx.Response(200, content=wrong) if "model.bin" in request.url.path else None

    with (
        rig.client(transport=Answers(lie)) as client,
        fails_as(Code.RESULT_MISMATCH),
    ):
        client.fetch_result(ORIGIN, tmp_path / "result", digest)
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("path", ["../escape", "/escape", "a/../../escape"])
def test_fetch_result__hostile_manifest__refused(rig: Rig, tmp_path: Path, path: str) -> None:
    data = encode_manifest([Entry(path, 1, "0" * 64)])
    rig.jobs[JOB_ID] = JobView(
        TENANT.address, {}, manifest=rig.keep_manifest(data), results=tmp_path
    )
    with rig.client() as client, pytest.raises(LocalError, match=r"manifest\[0\]\.path"):
        client.fetch_result(ORIGIN, tmp_path / "result", attested(data))


def test_client__error_of_a_stranger__one_clean_line(rig: Rig) -> None:
    def shout(request: httpx.Request, answer: httpx.Response) -> httpx.Response | None:
        message = "\x1b[31m\nred" + "x" * 1_000
        error = {"code": "later", "message": message, "retryable": True, "details": {"line": 1}}
        return httpx.Response(400, json={"error": error})

    with rig.client(transport=Answers(shout)) as client, fails_as(Code.CODE_UNKNOWN) as caught:
        client.provider()
    assert caught.value.retryable and caught.value.details == {"line": 1}
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"[" * 100_000, b"x" * 2_000_000], ids=len)
def test_client__no_agent_there__one_line(rig: Rig, content: bytes) -> None:
    def html(request: httpx.Request, answer: httpx.Response) -> httpx.Response | None:
        return httpx.Response(200, content=content)

    with rig.client(transport=Answers(html)) as client, fails_as(Code.ANSWER_INVALID):
        client.provider()


def test_client__redirect__not_followed(rig: Rig) -> None:
    def away(request: httpx.Request, answer: httpx.Response) -> httpx.Response | None:
        return httpx.Response(302, headers={"location": "http://127.0.0.1:1/"})

    with rig.client(transport=Answers(away)) as client, fails_as(Code.ANSWER_INVALID):
        client.provider()


def test_result__manifest__exact_bytes(rig: Rig) -> None:
    digest = rig.add_result(FILES)
    answer = get(rig, "/result")
    assert attested(answer.content) == digest
    assert answer.headers["content-type"] == "application/json"


def test_result__range__rest_of_the_file(rig: Rig) -> None:
    rig.add_result(FILES)
    answer = get(rig, "/result/model.bin", range="bytes=699990-")
    assert answer.status_code == 206
    assert answer.content == FILES["model.bin"][-10:]
    assert answer.headers["content-range"] == "bytes 699990-699999/700000"
    assert get(rig, "/result/model.bin", range="bytes=700000-").status_code == 416


@pytest.mark.parametrize(
    "path",
    [
        "../../inputs",
        "..%2f..%2fsecret",
        "%2e%2e/secret",
        "a/%2e%2e/%2e%2e/secret",
        "%2fetc%2fpasswd",
        "plots",
        "plots/",
        "plots//loss%20curve.svg",
        "model.bin%00",
        "unlisted",
        "%ff",
    ],
)
def test_result__path_traversal__refused(rig: Rig, path: str) -> None:
    rig.add_result(FILES)
    (rig.root / "results" / "secret").write_text("classified")
    results = rig.jobs[JOB_ID].results
    assert results is not None
    (results / "unlisted").write_text("classified")
    with rig.client() as client:
        client.login()
        host, port = rig.url.removeprefix("http://").split(":")
        # By hand: a client library would tidy the path.
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(
                f"GET /v1/jobs/0x{JOB_ID.hex()}/result/{path} HTTP/1.1\r\nhost: {host}\r\n"
                f"authorization: Bearer {client._http._token}\r\nconnection: close\r\n\r\n".encode()
            )
            data = b""
            while piece := connection.recv(4_096):
                data += piece
    assert data.split()[1] in (b"400", b"404")
    assert b"classified" not in data and str(rig.root).encode() not in data


def test_result__file_became_a_link__410_without_content(rig: Rig, tmp_path: Path) -> None:
    rig.add_result(FILES)
    (tmp_path / "secret").write_bytes(b"s" * 6)
    results = rig.jobs[JOB_ID].results
    assert results is not None
    for change in ("unlink", "link", "grow"):
        path = results / "plots" / "loss curve.svg"
        path.unlink(missing_ok=True)
        if change == "link":
            path.symlink_to(tmp_path / "secret")
        if change == "grow":
            path.write_bytes(b"longer than before")
        answer = get(rig, "/result/plots/loss%20curve.svg")
        assert answer.status_code == 410
        assert str(tmp_path) not in answer.text


def test_result_tar__unpacks_to_the_same_digest(rig: Rig, tmp_path: Path) -> None:
    long = "deep-and-deeper/" * 13 + "x" * 150
    digest = rig.add_result({**FILES, long: b"deep"})
    answer = get(rig, "/result.tar")
    assert int(answer.headers["content-length"]) == len(answer.content)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / "out")
    assert attested(manifest(tmp_path / "out")) == digest
    assert get(rig, "/result.tar").content == answer.content


def test_job__nothing_yet__404(rig: Rig) -> None:
    rig.jobs[JOB_ID] = JobView(TENANT.address, {"status": "ASSIGNED"})
    for path in ("/result", "/result/a", "/result.tar", "/receipt", "/logs"):
        answer = get(rig, path)
        assert code_of(answer) is Code.NOT_READY


def test_job__unknown_or_malformed_id__404_or_400(rig: Rig) -> None:
    assert get(rig, "").status_code == 404
    with rig.client() as client:
        client.login()
        headers = {"authorization": f"Bearer {client._http._token}"}
    for job_id, status in (("0x12", 400), ("A" * 64, 400), ("..%2f", 404), ("b" * 64, 404)):
        answer = http.get(f"{rig.url}/v1/jobs/{job_id}", headers=headers)
        assert answer.status_code == status


def test_receipt__attested__checked_by_the_client(rig: Rig) -> None:
    receipt = b'{"cpu_seconds":1}'
    rig.jobs[JOB_ID] = JobView(TENANT.address, {}, receipt=receipt)
    with rig.client() as client:
        assert client.receipt(JOB_ID, hashlib.sha256(receipt).digest()) == receipt
        with fails_as(Code.RESULT_MISMATCH):
            client.receipt(JOB_ID, bytes(32))


def test_logs__pieces__join_to_the_whole(rig: Rig, tmp_path: Path) -> None:
    text = "".join(f"línea {n} ✓\n" for n in range(10_000))
    log = tmp_path / "log"
    log.write_bytes(text.encode())
    rig.jobs[JOB_ID] = JobView(TENANT.address, {}, log=log)
    with rig.client() as client:
        tail = client.logs(JOB_ID)
        assert text.endswith(tail["text"].lstrip("\ufffd")) and tail["next"] == tail["size"]
        found, offset = "", 0
        while True:
            piece = client.logs(JOB_ID, offset)
            if not piece["text"]:
                break
            found, offset = found + piece["text"], piece["next"]
    assert found == text


def test_logs__bad_utf8_and_offsets__answered(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"ok \xff\xfe \xf0\x9f")
    rig.jobs[JOB_ID] = JobView(TENANT.address, {}, log=log)
    piece = get(rig, "/logs").json()
    assert piece["text"].startswith("ok \ufffd\ufffd")
    assert get(rig, f"/logs?offset={10**17}").json()["text"] == ""
    assert get(rig, "/logs?offset=-1").status_code == 400
    assert get(rig, "/logs?offset=x").status_code == 400
    log.unlink()
    assert get(rig, "/logs").status_code == 404


def test_logs__became_a_link__no_content(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("classified")
    log = tmp_path / "log"
    log.symlink_to(tmp_path / "secret")
    rig.jobs[JOB_ID] = JobView(TENANT.address, {}, log=log)
    answer = get(rig, "/logs")
    assert code_of(answer) is Code.RESULT_GONE
    assert "classified" not in answer.text


def test_manifest__helper_agrees_with_the_protocol(rig: Rig) -> None:
    rig.add_result(FILES)
    view = rig.jobs[JOB_ID]
    assert view.results is not None and view.manifest is not None
    assert view.manifest.read_bytes() == manifest(view.results)


def test_client__base_url_with_slash__works(rig: Rig) -> None:
    with AgentClient(rig.url + "/", TENANT) as client:
        assert client.provider()["runtimes"] == ["python-ml"]


def test_downloads__of_one_account__few_at_once_and_others_are_served(tmp_path: Path) -> None:
    limits = ApiLimits(downloads_per_account=2, downloads=3)
    with serve(Rig(tmp_path, limits)) as rig, ExitStack() as stack:
        rig.add_result({"a": bytes(8 << 20)})
        rig.jobs[OTHER_JOB] = replace(rig.jobs[JOB_ID], requester=STRANGER.address)

        def begin(path: str, job_id: bytes = JOB_ID, account: Any = TENANT) -> httpx.Response:
            with rig.client(account) as client:
                client.login()
                headers = {"authorization": f"Bearer {client._http._token}"}
            url = f"{rig.url}/v1/jobs/0x{job_id.hex()}{path}"
            return stack.enter_context(http.stream("GET", url, headers=headers))

        first, second = begin("/result.tar"), begin("/result/a")
        assert (first.status_code, second.status_code) == (200, 200)
        for path in ("/result.tar", "/result/a", "/result"):
            assert code_of(begin(path)) is Code.RATE_LIMITED
        assert begin("").status_code == 200
        assert begin("/result.tar", OTHER_JOB, STRANGER).status_code == 200
        assert code_of(begin("/result.tar", OTHER_JOB, STRANGER)) is Code.SERVER_BUSY
        second.close()
        wait_until(lambda: begin("/result").status_code == 200)


def test_download__refused_or_not_there__takes_no_slot(tmp_path: Path) -> None:
    with serve(Rig(tmp_path, ApiLimits(downloads_per_account=1))) as rig:
        rig.add_result(FILES)
        for _ in range(3):
            assert get(rig, "/result/none").status_code == 404
        assert get(rig, "/result.tar").status_code == 200
        manifest_file = rig.jobs[JOB_ID].manifest
        assert manifest_file is not None
        manifest_file.unlink()
        for _ in range(3):
            assert code_of(get(rig, "/result.tar")) is Code.RESULT_GONE


@pytest.mark.parametrize(
    ("asked", "bytes_", "said"),
    [
        ("bytes=2-", b"234567", "bytes 2-7/8"),
        ("bytes=0-0", b"0", "bytes 0-0/8"),
        ("bytes=2-4", b"234", "bytes 2-4/8"),
        ("bytes=6-99", b"67", "bytes 6-7/8"),
        ("bytes=-3", b"567", "bytes 5-7/8"),
        ("bytes=-99", b"01234567", "bytes 0-7/8"),
        ("bytes=4-2", b"01234567", None),
        ("bytes=-", b"01234567", None),
        ("bytes=0-1,3-4", b"01234567", None),
        ("lines=0-1", b"01234567", None),
    ],
)
def test_result__one_range__those_bytes(
    rig: Rig, asked: str, bytes_: bytes, said: str | None
) -> None:
    rig.add_result({"a": b"01234567"})
    answer = get(rig, "/result/a", range=asked)
    assert (answer.status_code, answer.content) == (206 if said else 200, bytes_)
    assert answer.headers.get("content-range") == said
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["bytes=8-", "bytes=8-9", "bytes=-0", "bytes=" + "9" * 18 + "-"])
def test_result__nothing_of_the_file__416_with_its_size(rig: Rig, asked: str) -> None:
    rig.add_result({"a": b"01234567"})
    answer = get(rig, "/result/a", range=asked)
    assert (code_of(answer), answer.headers["content-range"]) == (Code.RANGE_INVALID, "bytes */8")


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=0-5", "bytes=-5"])
def test_result__range_of_an_empty_file__416(rig: Rig, asked: str) -> None:
    rig.add_result({"a": b""})
    assert code_of(get(rig, "/result/a", range=asked)) is Code.RANGE_INVALID


@pytest.mark.parametrize("account", [None, STRANGER])
def test_seal_and_manifest__every_route__shown_to_the_requester_alone(
    rig: Rig, account: LocalAccount | None
) -> None:
    """Whoever could read them could vote for a result without having run the job."""
    rig.add_result(FILES)
    held = rig.jobs[JOB_ID].manifest
    assert held is not None
    listed = held.read_bytes()
    # What a vote of each round of a dispute must show.
    secrets = ["é.txt", hashlib.sha256(listed).hexdigest(), *(s.hex() for s in seals(listed)[:3])]
    secrets += [hashlib.sha256(content).hexdigest() for content in FILES.values() if content]
    headers = {}
    if account is not None:
        with rig.client(account) as client:
            client.login()
            headers = {"authorization": f"Bearer {client._http._token}"}
    routes = http.get(f"{rig.url}/v1/openapi.json").json()["paths"]
    none = "00" * 32
    values = {"job_id": "0x" + JOB_ID.hex(), "path": "model.bin", "sha256": none, "digest": none}
    asked = [rig.status_url + page for page in ("/healthz", "/readyz", "/metrics")]
    asked += [rig.url + re.sub(r"{(\w+)[^}]*}", lambda m: values[m[1]], path) for path in routes]
    assert sum("/jobs/" in url for url in asked) >= 6
    for url in asked:
        answer = http.get(url, headers=headers)
        said = answer.text + repr(answer.headers)
        assert not [word for word in secrets if word in said], url
        if "/jobs/" in url:
            assert answer.status_code in (401, 403), url
    assert get(rig, "/result").content == listed
