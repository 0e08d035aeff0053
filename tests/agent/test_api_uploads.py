# SPDX-License-Identifier: Apache-2.0
import contextlib
import errno
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from provider_agent.core.capacity import Amounts, Capacity
from provider_agent.http.limits import ApiLimits
from provider_agent.http.uploads import InputStorage, StorageLimits, Upload
from teraproof.errors import LocalError, Refused
from teraproof.protocol import jobspec
from teraproof.protocol.errors import Code
from tests.agent.api_rig import (
    JOBS,
    OPERATOR,
    STRANGER,
    TENANT,
    Rig,
    code_of,
    http,
    make_spec,
    serve,
    wait_until,
)
from tests.support.codes import fails_as

DATA = b"input " * 100_000
NAME = hashlib.sha256(DATA).hexdigest()
FILES = {"main.py": b"print(1)\n", "data/train.csv": DATA, "data/same.csv": DATA}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(Rig(tmp_path)) as running:
        yield running


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "local"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def token(rig: Rig) -> dict[str, str]:
    with rig.client() as client:
        client.login()
        return {"authorization": f"Bearer {client._http._token}"}


def put(rig: Rig, data: bytes, name: str = NAME, **headers: str) -> httpx.Response:
    url = f"{rig.url}/v1/inputs/{name}"
    return http.put(url, content=data, headers={**token(rig), **headers})


def raw_put(rig: Rig, length: int, body: bytes) -> socket.socket:
    """Begin an upload by hand and leave it hanging."""
    host, port = rig.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    head = (
        f"PUT /v1/inputs/{NAME} HTTP/1.1\r\nhost: {host}\r\n"
        f"authorization: {token(rig)['authorization']}\r\ncontent-length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def test_upload__spec_and_inputs__kept_and_skipped_next_time(rig: Rig, local: Path) -> None:
    spec = make_spec(FILES)
    with rig.client() as client:
        assert client.upload(spec, local) == 2
        assert client.upload(spec, local) == 0
    assert rig.store.spec(spec.digest()) == spec.canonical()
    kept = rig.inputs.path(TENANT.address, NAME)
    assert kept is not None and kept.read_bytes() == DATA
    assert rig.inputs.used(TENANT.address) == (len(DATA) + 9, 2)
    assert rig.left_behind() == []


def test_upload__local_file_differs__nothing_sent(rig: Rig, local: Path) -> None:
    (local / "main.py").write_bytes(b"print(2)\n")
    with rig.client() as client, fails_as(Code.INPUT_INVALID):
        client.upload(make_spec(FILES), local)
    assert not rig.store.specs


def test_upload__job_not_seen_yet__waits_for_it(rig: Rig, local: Path) -> None:
    rig.uploaders.clear()
    timer = threading.Timer(0.5, rig.uploaders.add, [TENANT.address])
    timer.start()
    with rig.client() as client:
        assert client.upload(make_spec(FILES), local, wait=20) == 2
    timer.join()


def test_upload__stranger__403(rig: Rig, local: Path) -> None:
    with rig.client(STRANGER) as client, fails_as(Code.INPUT_UNEXPECTED):
        client.upload(make_spec(FILES), local, wait=0)
    assert rig.inputs.used() == (0, 0)


def test_put_input__twice__idempotent(rig: Rig) -> None:
    assert put(rig, DATA).status_code == 201
    assert put(rig, DATA).status_code == 200
    assert rig.inputs.used() == (len(DATA), 1)


def test_put_input__other_account__has_no_access_by_name(rig: Rig) -> None:
    put(rig, DATA)
    with rig.client(STRANGER) as client:
        assert not client._has(f"/v1/inputs/{NAME}")
    assert rig.inputs.path(STRANGER.address, NAME) is None


@pytest.mark.parametrize("data", [DATA + b"x", DATA[:-1], b"", DATA[:-1] + b"\x00"], ids=range(4))
def test_put_input__wrong_digest__422_and_nothing_kept(rig: Rig, data: bytes) -> None:
    answer = put(rig, data)
    assert answer.status_code == 422
    assert rig.inputs.path(TENANT.address, NAME) is None
    assert rig.inputs.used() == (0, 0)
    assert rig.left_behind() == []


@pytest.mark.parametrize("name", ["x", NAME.upper(), NAME[:-1], "..%2f" + NAME[5:], NAME + "0"])
def test_put_input__bad_name__refused(rig: Rig, name: str) -> None:
    assert put(rig, DATA, name).status_code in (400, 404)


def test_put_input__no_session__401(rig: Rig) -> None:
    assert http.put(f"{rig.url}/v1/inputs/{NAME}", content=DATA).status_code == 401


def test_put_input__no_length__411(rig: Rig) -> None:
    pieces = iter([DATA])
    answer = http.put(f"{rig.url}/v1/inputs/{NAME}", content=pieces, headers=token(rig))
    assert answer.status_code == 411


def test_put_input__empty_file__kept(rig: Rig) -> None:
    name = hashlib.sha256(b"").hexdigest()
    assert put(rig, b"", name, **{"content-length": "0"}).status_code == 201
    assert rig.inputs.path(TENANT.address, name) is not None


def test_put_input__over_the_limits__413_or_507(tmp_path: Path) -> None:
    small = StorageLimits(file=1_000, account=1_500, account_files=3, total=2_000)
    with serve(Rig(tmp_path, storage_limits=small)) as rig:
        rig.uploaders.add(STRANGER.address)
        assert put(rig, DATA).status_code == 413
        one, two = b"a" * 900, b"b" * 900
        assert put(rig, one, hashlib.sha256(one).hexdigest()).status_code == 201
        answer = put(rig, two, hashlib.sha256(two).hexdigest())
        assert code_of(answer) is Code.UPLOAD_QUOTA
        with rig.client(STRANGER) as client:
            client.login()
            headers = {"authorization": f"Bearer {client._http._token}"}
        for data, status in ((two, 201), (b"c" * 300, 507)):
            name = hashlib.sha256(data).hexdigest()
            url = f"{rig.url}/v1/inputs/{name}"
            assert http.put(url, content=data, headers=headers).status_code == status
        assert rig.left_behind() == []


def test_put_input__broken_off__nothing_left(rig: Rig) -> None:
    connection = raw_put(rig, len(DATA), DATA[:200_000])
    wait_until(lambda: rig.left_behind())
    assert rig.inputs.used()[0] < len(DATA), "what has not arrived takes no room"
    connection.close()
    wait_until(lambda: not rig.left_behind() and rig.inputs.used() == (0, 0))
    assert put(rig, DATA).status_code == 201


def test_put_input__stalls__408_and_nothing_left(tmp_path: Path) -> None:
    with serve(Rig(tmp_path, ApiLimits(body_seconds=0.5))) as rig:
        with raw_put(rig, len(DATA), DATA[:10]) as connection:
            assert connection.recv(4_096).startswith(b"HTTP/1.1 408")
        wait_until(lambda: not rig.left_behind())
        assert rig.inputs.used() == (0, 0)


def test_put_input__drips__408_by_the_whole_time(tmp_path: Path) -> None:
    limits = ApiLimits(body_seconds=0.5, upload_rate=1 << 30)
    with serve(Rig(tmp_path, limits)) as rig, raw_put(rig, len(DATA), DATA[:10]) as connection:
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                try:
                    connection.send(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert connection.recv(4_096).startswith(b"HTTP/1.1 408")
        finally:
            stop.set()
            thread.join()


def test_put_input__disk_full_while_writing__507_and_nothing_left(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Upload, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Upload, "write", full)
        assert put(rig, DATA).status_code == 507
    assert (rig.inputs.used(), rig.left_behind()) == ((0, 0), [])
    assert put(rig, DATA).status_code == 201


def test_put_input__one_digest_at_once__kept_once(rig: Rig) -> None:
    headers = token(rig)
    statuses: list[int] = []
    barrier = threading.Barrier(4)

    def send() -> None:
        barrier.wait()
        url = f"{rig.url}/v1/inputs/{NAME}"
        statuses.append(http.put(url, content=DATA, headers=headers).status_code)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 201} and len(statuses) == 4
    assert rig.inputs.used() == (len(DATA), 1)
    assert rig.left_behind() == []


def test_put_input__too_many_at_once__429(tmp_path: Path) -> None:
    with serve(Rig(tmp_path, ApiLimits(uploads_per_account=1))) as rig:
        with raw_put(rig, len(DATA), DATA[:10]):
            wait_until(lambda: rig.left_behind())
            assert put(rig, DATA).status_code == 429
        wait_until(lambda: not rig.left_behind())
        assert put(rig, DATA).status_code == 201


def test_connection__sends_no_request__closed(tmp_path: Path) -> None:
    with serve(Rig(tmp_path, ApiLimits(header_seconds=0.3))) as rig:
        host, port = rig.url.removeprefix("http://").split(":")
        for opening in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET /"):
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(opening)
                began = time.monotonic()
                while connection.recv(4_096):
                    pass
                assert time.monotonic() - began < 3


def test_connection__huge_header__refused(rig: Rig) -> None:
    for size in (20_000, 60_000):
        answer = http.get(rig.url + "/healthz", headers={"x": "y" * size})
        assert answer.status_code in (400, 431)
    # So much that the server hangs up while it is still being sent.
    with contextlib.suppress(httpx.TransportError):
        answer = http.get(rig.url + "/healthz", headers={"x": "y" * 5_000_000})
        assert answer.status_code in (400, 431)
    assert http.get(rig.url + "/healthz").status_code == 200


def test_put_spec__not_canonical__422(rig: Rig) -> None:
    data = make_spec({}).canonical() + b"\n"
    url = f"{rig.url}/v1/specs/{hashlib.sha256(data).hexdigest()}"
    answer = http.put(url, content=data, headers=token(rig))
    assert code_of(answer) is Code.SPEC_INVALID


def test_put_spec__other_bytes_or_invalid__422(rig: Rig) -> None:
    url = f"{rig.url}/v1/specs/{NAME}"
    assert code_of(http.put(url, content=b"{}", headers=token(rig))) is Code.DIGEST_MISMATCH
    url = f"{rig.url}/v1/specs/{hashlib.sha256(b'{}').hexdigest()}"
    answer = http.put(url, content=b"{}", headers=token(rig))
    assert code_of(answer) is Code.SPEC_INVALID
    assert not rig.store.specs


def test_put_spec__too_large_or_no_session__refused(rig: Rig) -> None:
    url = f"{rig.url}/v1/specs/{NAME}"
    data = b" " * (jobspec.MAX_BYTES + 1)
    assert http.put(url, content=data, headers=token(rig)).status_code == 413
    assert http.put(url, content=b"{}").status_code == 401


def test_put_spec__quotas__413_then_507(tmp_path: Path) -> None:
    size = len(make_spec({}).canonical())
    limits = ApiLimits(specs_per_account=1, unnamed_spec_bytes=2 * size - 1)
    with serve(Rig(tmp_path, limits)) as rig:
        specs = [make_spec({"a": bytes([n])}) for n in range(2)]
        with rig.client() as client:
            client.upload_spec(specs[0])
            with fails_as(Code.SPEC_QUOTA):
                client.upload_spec(specs[1])
        with rig.client(STRANGER) as client, fails_as(Code.STORAGE_FULL):
            client.upload_spec(specs[1])
        # A job on chain has been paid for: its specification finds room, and frees the quota.
        rig.store.named.add(specs[1].digest())
        with rig.client() as client:
            client.upload_spec(specs[1])
        rig.store.named.add(specs[0].digest())
        with rig.client() as client:
            client.upload_spec(make_spec({"b": b""}))


def test_put_spec__all_room_taken__507(tmp_path: Path) -> None:
    spec = make_spec({})
    with serve(Rig(tmp_path, ApiLimits(spec_bytes=len(spec.canonical()) - 1))) as rig:
        rig.store.named.add(spec.digest())
        with rig.client() as client, fails_as(Code.STORAGE_FULL):
            client.upload_spec(spec)


def test_upload__spec_over_quota_until_the_job_is_seen__waits(tmp_path: Path, local: Path) -> None:
    spec = make_spec(FILES)
    with serve(Rig(tmp_path, ApiLimits(specs_per_account=0))) as rig, rig.client() as client:
        timer = threading.Timer(0.5, rig.store.named.add, [spec.digest()])
        timer.start()
        assert client.upload(spec, local, wait=20) == 2
        timer.join()


def test_put_spec__known_or_over_quota__not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, other = make_spec({}), make_spec({"a": b""})
    with serve(Rig(tmp_path, ApiLimits(specs_per_account=1))) as rig:
        with rig.client() as client:
            client.upload_spec(known)

        def costly(*_: object) -> None:
            raise AssertionError("parsed")

        monkeypatch.setattr(jobspec, "parse_named", costly)
        headers = token(rig)
        for spec, status in ((known, 200), (other, 429)):
            url = f"{rig.url}/v1/specs/{spec.digest().hex()}"
            answer = http.put(url, content=spec.canonical(), headers=headers)
            assert answer.status_code == status


def test_put_spec__too_many_a_minute__429(tmp_path: Path) -> None:
    with serve(Rig(tmp_path, ApiLimits(specs_per_minute=2))) as rig:
        headers = token(rig)
        url = f"{rig.url}/v1/specs/{hashlib.sha256(b'{}').hexdigest()}"
        found = [http.put(url, content=b"{}", headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in found] == [422, 422, 429]
        assert 29 <= int(found[2].headers["retry-after"]) <= 30  # of 60 seconds


def test_spec__many_mistakes__search_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    found = 0
    search = jobspec.FORM.validator.iter_errors

    def counted(document: object) -> Iterator[object]:
        nonlocal found
        for error in search(document):
            found += 1
            yield error

    monkeypatch.setattr(jobspec.FORM, "validator", SimpleNamespace(iter_errors=counted))
    document = make_spec({}).to_json() | {"inputs": [[]] * 50_000}
    with pytest.raises(LocalError, match="inputs"):
        jobspec.parse(jobspec.canonical(document))
    assert 0 < found < 100


def test_put_input__job_would_not_run__409_says_why(rig: Rig) -> None:
    line = "runtime nope is not offered here"
    rig.upload_refusal = Refused(Code.RUNTIME_NOT_OFFERED, line, offered=["python-ml"])
    answer = put(rig, DATA)
    assert answer.status_code == 409
    assert answer.json()["error"] == {
        "code": "runtime_not_offered",
        "message": line,
        "retryable": False,
        "details": {"offered": ["python-ml"]},
    }
    assert rig.left_behind() == []


def test_put_input__not_named_by_a_specification__403(rig: Rig) -> None:
    rig.inputs_named = {(NAME, len(DATA))}
    assert put(rig, b"else", hashlib.sha256(b"else").hexdigest()).status_code == 403
    answer = put(rig, DATA + b"x")
    assert code_of(answer) is Code.INPUT_UNEXPECTED
    assert put(rig, DATA).status_code == 201


def test_put_input__others_announce_much__still_room(tmp_path: Path) -> None:
    limits = StorageLimits(total=len(DATA) + 1_000)
    with serve(Rig(tmp_path, storage_limits=limits)) as rig:
        rig.uploaders.add(STRANGER.address)
        with rig.client(STRANGER) as client:
            client.login()
            headers = {"authorization": f"Bearer {client._http._token}"}
        with raw_put(rig, len(DATA), DATA[:10]):
            wait_until(lambda: rig.left_behind())
            url = f"{rig.url}/v1/inputs/{NAME}"
            assert http.put(url, content=DATA, headers=headers).status_code == 201


def test_storage__room_is_gone_while_bytes_arrive__507(tmp_path: Path) -> None:
    storage = InputStorage(tmp_path, StorageLimits(total=10, account=10))
    one, two = "1" * 64, "2" * 64
    with storage.receive(TENANT.address, one, 8) as first:
        with fails_as(Code.UPLOAD_QUOTA):
            storage.receive(TENANT.address, two, 8)
        with storage.receive(STRANGER.address, two, 8) as second:
            first.write(b"12345678")
            second.write(b"12")
            with fails_as(Code.STORAGE_FULL):
                second.write(b"3")
        assert storage.used() == (8, 1)
    assert storage.used() == (0, 0)
    assert storage.capacity.holds() == {}
    assert list((tmp_path / "incoming").iterdir()) == []


def test_quote__spec_uploaded__signed_for_this_tenant(rig: Rig) -> None:
    spec = make_spec({})
    with rig.client() as client:
        with fails_as(Code.SPEC_MISSING):
            client.quote(spec, JOBS)
        client.upload_spec(spec)
        quote, signature = client.quote(spec, JOBS)
    assert (quote.operator, quote.requester) == (OPERATOR.address, TENANT.address)
    assert (quote.price, quote.nonce, len(signature)) == (5_000_000, 2**200, 65)


def test_quote__provider_declines__its_reason(rig: Rig) -> None:
    spec = make_spec({}, gpus=1)
    with rig.client() as client:
        client.upload_spec(spec)
        with fails_as(Code.LIMIT_EXCEEDED):
            client.quote(spec, JOBS)


def test_quote__signed_for_another_contract__client_refuses(rig: Rig) -> None:
    spec = make_spec({})
    with rig.client() as client:
        client.upload_spec(spec)
        other = type(JOBS)(JOBS.chain_id + 1, JOBS.contract)
        with fails_as(Code.QUOTE_INVALID):
            client.quote(spec, other)


def test_storage__restart__counts_what_is_there_and_drops_halves(tmp_path: Path) -> None:
    storage = InputStorage(tmp_path, StorageLimits())
    with storage.receive(TENANT.address, NAME, len(DATA)) as upload:
        upload.write(DATA)
        upload.finish()
    (tmp_path / "incoming" / "half").write_bytes(b"half")
    again = InputStorage(tmp_path, StorageLimits())
    assert again.used() == again.used(TENANT.address) == (len(DATA), 1)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_storage__disk_nearly_full__507(tmp_path: Path) -> None:
    nothing = Capacity(lambda: Amounts(disk=0, inodes=100))
    storage = InputStorage(tmp_path, capacity=nothing)
    with fails_as(Code.STORAGE_FULL):
        storage.receive(TENANT.address, NAME, 1)
    assert storage.used() == (0, 0)


def test_storage__prune__keeps_what_is_wanted(tmp_path: Path) -> None:
    storage = InputStorage(tmp_path, StorageLimits())
    names = []
    for data in (b"old", b"wanted"):
        names.append(hashlib.sha256(data).hexdigest())
        with storage.receive(TENANT.address, names[-1], len(data)) as upload:
            upload.write(data)
            upload.finish()
    assert storage.prune(3_600, lambda address, name: False) == 0
    assert storage.prune(-1, lambda address, name: name == names[1]) == 1
    assert storage.used() == (6, 1)
    storage.remove(TENANT.address, names[1])
    storage.remove(TENANT.address, names[1])
    assert storage.used() == (0, 0)
