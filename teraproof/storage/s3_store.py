# SPDX-License-Identifier: Apache-2.0
"""Objects in an S3-compatible store. boto3 signs requests and reads answers; the bytes go through
our own connections, with their checks of addresses, their deadlines and rates.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from io import SEEK_CUR, SEEK_END, SEEK_SET
from typing import IO, TYPE_CHECKING, Any

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.access import Access
from teraproof.storage.limits import PIECE
from teraproof.storage.objects import Body, Source, too_many
from teraproof.storage.uris import Uri, parse
from teraproof.storage.web import Answer, Web, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Objects above this size go in parts of it, or of a size that makes at most MOST_PARTS.
PART = 16 << 20
MOST_PARTS = 10_000
_ANSWER = 8 << 20  # bytes of an answer, other than an object
_MOST_LISTS = 1000  # one after the other; each has 1,000 names or parts where a store is in order
_NAME = 1024  # bytes that a name has at most
_PARTIAL, _BEYOND, _EXISTS = 206, 416, (409, 412)
_GONE = "NoSuchUpload"
_QUIET = ("boto3", "botocore", "s3transfer")


class S3Store:
    """See `Store`. Keys lie below the key of the URI."""

    def __init__(self, uri: Uri, web: Web, access: Access, part: int = PART) -> None:
        self.uri, self._web, self._part = web.reach.check(uri), web, part
        self._client, self._fault, self._nonsense = _client(web, access)

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    def cut_off(self) -> None:
        """See `Store`."""
        self._web.cut_off()

    def size(self, key: str) -> int | None:
        """By HEAD."""
        try:
            return int(self._ask(key, "head_object")["ContentLength"])
        except LocalError as error:
            if error.code is Code.OBJECT_MISSING:
                return None
            raise

    @contextmanager
    def read(self, key: str, start: int) -> Iterator[Body]:
        """By GET, from `start` on."""
        try:
            said = self._ask(key, "get_object", **({"Range": f"bytes={start}-"} if start else {}))
        except LocalError as error:
            if error.details.get("status") != _BEYOND:
                raise
            line = f"{self.uri}: is shorter than it was"
            raise LocalError(line, Code.DIGEST_MISMATCH) from None
        stream = said["Body"]
        begin = start if said["ResponseMetadata"]["HTTPStatusCode"] == _PARTIAL else 0
        try:
            yield Body(begin, begin + int(said["ContentLength"]), self._chunks(stream))
        finally:
            stream.close()

    def _chunks(self, stream: Any) -> Iterator[bytes]:
        try:
            yield from stream.iter_chunks(PIECE)
        except self._nonsense:
            raise self._odd() from None

    def write(self, key: str, source: Source, *, new: bool = False) -> bool:
        """In one request, or in parts. Parts of an upload that was broken off are used if they are
        of these bytes.
        """
        if source.named.size > self._part and not new:
            self._write_parts(key, source)
            return True
        data = b"".join(source.pieces())
        try:
            # The signature is over the body's sha256, so the store takes nothing else.
            self._ask(key, "put_object", Body=data, **({"IfNoneMatch": "*"} if new else {}))
        except LocalError as error:
            if new and error.details.get("status") in _EXISTS:
                return False
            raise
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """By lists of 1,000. Names earn time for the next list, as bytes do."""
        limits, start, count = self._web.limits, time.monotonic(), 0
        whole = self._key(prefix.rstrip("/")) + "/" if prefix or self.uri.path else ""
        more: dict[str, Any] = {}
        for _ in range(_MOST_LISTS):
            said = self._ask(None, "list_objects_v2", Prefix=whole, Delimiter="/", **more)
            for each in said.get("Contents", ()):
                count += 1
                if count > limits.most_names:
                    raise too_many(self.uri, limits.most_names)
                name = str(each["Key"]).removeprefix(whole)
                if name:
                    yield name
            if not said.get("IsTruncated"):
                return
            if time.monotonic() > start + limits.seconds(count * _NAME):
                raise LocalError(f"{self.uri}: lists what it has too slowly", Code.TOO_SLOW)
            more = {"ContinuationToken": said["NextContinuationToken"]}
        raise too_many(self.uri, limits.most_names)

    def delete(self, key: str) -> None:
        """By DELETE, with the parts of uploads that were broken off."""
        try:
            self._ask(key, "delete_object")
            for begun in self._uploads(key):
                self._ask(key, "abort_multipart_upload", UploadId=begun["UploadId"])
        except LocalError as error:
            if error.code is not Code.OBJECT_MISSING:
                raise

    # ---------------------------------------------------------------- parts

    def _write_parts(self, key: str, source: Source) -> None:
        size = source.named.size
        part = max(self._part, -(-size // MOST_PARTS))
        for attempt in (1, 2):
            upload, there = self._upload(key)
            try:
                with source.open() as file:
                    done = [
                        self._write_part(key, upload, there, number, _Section(file, at, part, size))
                        for number, at in enumerate(range(0, size, part), 1)
                    ]
                for _ in source.pieces():
                    pass  # nothing has changed while it was sent
                self._ask(
                    key,
                    "complete_multipart_upload",
                    UploadId=upload,
                    MultipartUpload={"Parts": done},
                )
            except LocalError as error:
                # Somebody has completed or removed the upload; once is enough to begin again.
                if error.details.get("store_code") != _GONE or attempt == 2:
                    raise
            else:
                return

    def _upload(self, key: str) -> tuple[str, dict[int, tuple[str, int]]]:
        """An upload for this key, and its parts by number: ETag and size. The newest that was
        broken off, or a new one. The store keeps this state, so it outlives the disk.
        """
        begun = self._uploads(key)
        if not begun:
            return str(self._ask(key, "create_multipart_upload")["UploadId"]), {}
        upload = str(max(begun, key=lambda each: each["Initiated"])["UploadId"])
        there: dict[int, tuple[str, int]] = {}
        marker = 0
        for _ in range(_MOST_LISTS):
            said = self._ask(key, "list_parts", UploadId=upload, PartNumberMarker=marker)
            for each in said.get("Parts", ()):
                there[int(each["PartNumber"])] = (str(each["ETag"]), int(each["Size"]))
            if not said.get("IsTruncated"):
                return upload, there
            marker = int(said["NextPartNumberMarker"])
        raise self._odd()

    def _uploads(self, key: str) -> list[dict[str, Any]]:
        """Uploads of this key that were begun and not completed, the first 100."""
        whole = self._key(key)
        said = self._ask(None, "list_multipart_uploads", Prefix=whole, MaxUploads=100)
        return [each for each in said.get("Uploads", ()) if each["Key"] == whole]

    def _write_part(
        self,
        key: str,
        upload: str,
        there: Mapping[int, tuple[str, int]],
        number: int,
        body: _Section,
    ) -> dict[str, Any]:
        if number in there:
            tag, size = there[number]
            # Where the store's tag is another hash, no part is taken for ours: it is sent again.
            if size == body.size and tag.strip('"') == body.md5():
                return {"PartNumber": number, "ETag": tag}
        said = self._ask(key, "upload_part", UploadId=upload, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": str(said["ETag"])}

    # ---------------------------------------------------------------- requests

    def _key(self, key: str) -> str:
        return "/".join(part for part in (self.uri.path, key) if part)

    def _ask(self, key: str | None, operation: str, **values: Any) -> dict[str, Any]:
        """One request; `key` None: about the bucket."""
        place = self.uri if key is None else Uri("s3", self.uri.host, 0, self._key(key))
        if key is not None:
            values["Key"] = place.path
        try:
            return dict(getattr(self._client, operation)(Bucket=self.uri.host, **values))
        except self._fault as error:
            said = error.response
            status = int(said.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            made = refusal(place, status)
            made.details |= {
                "status": status,
                "store_code": str(said.get("Error", {}).get("Code", ""))[:64],
            }
            raise made from None
        except self._nonsense:
            raise self._odd() from None

    def _odd(self) -> LocalError:
        return LocalError(
            f"{self.uri}: answers as no S3 store does; check the endpoint", Code.STORE_REFUSED
        )


class _Section:
    """A part of an open file, as a file: to hash and to send it needs no copy in memory."""

    def __init__(self, file: IO[bytes], start: int, most: int, whole: int | None = None) -> None:
        self._file, self._start, self._at = file, start, 0
        self.size = most if whole is None else min(most, whole - start)

    def read(self, count: int | None = None) -> bytes:
        """At most `count` bytes."""
        left = self.size - self._at
        wanted = left if count is None or count < 0 else min(left, count)
        self._file.seek(self._start + self._at)
        data = self._file.read(wanted)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """As files do it."""
        base = {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """As files do it."""
        return self._at

    def md5(self) -> str:
        """What most stores call a part."""
        digest = hashlib.md5(usedforsecurity=False)
        self.seek(0)
        while piece := self.read(PIECE):
            digest.update(piece)
        self.seek(0)
        return digest.hexdigest()


class _Raw:
    """An answer's body, as botocore reads it."""

    def __init__(self, pieces: Iterator[bytes], opened: ExitStack) -> None:
        self._pieces, self._rest, self._opened = pieces, b"", opened

    def read(self, amt: int) -> bytes:
        """At most `amt` bytes, as they come; none at the end."""
        piece = self._rest or next(self._pieces, b"")
        self._rest = piece[amt:]
        return piece[:amt]

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        """As it comes."""
        return self._pieces

    def close(self) -> None:
        """Let the connection go."""
        self._opened.close()


def _client(web: Web, access: Access) -> tuple[Any, type[Any], type[Any]]:
    """A client of boto3 that sends through `web`, and its classes of errors: what a store answers,
    and what it should not have answered.
    """
    try:
        from boto3.session import Session
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import Session as Core
    except ImportError:
        raise LocalError(
            "s3:// needs boto3, which is not installed; run: pip install 'teraproof[s3]'",
            Code.EXTRA_MISSING,
        ) from None
    for name in _QUIET:  # at DEBUG they write signed headers to the log
        logging.getLogger(name).setLevel(logging.WARNING)
    # Nothing but `access` says who we are: no profile, no file, no variable.
    nowhere = (None, None, os.devnull, None)
    core = Core({"profile": (None,) * 4, "config_file": nowhere, "credentials_file": nowhere})
    core.register_component("data_loader", _models())
    signed = bool(access.key_id)
    client = Session(
        aws_access_key_id=access.key_id or None,
        aws_secret_access_key=access.secret or None,
        aws_session_token=access.token or None,
        region_name=access.region,
        botocore_session=core,
    ).client(
        "s3",
        endpoint_url=None if access.endpoint is None else _root(access.endpoint),
        config=Config(
            signature_version="s3v4" if signed else UNSIGNED,
            ignore_configured_endpoint_urls=True,
            retries={"total_max_attempts": 1, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "addressing_style": "auto" if access.endpoint is None else "path",
                "payload_signing_enabled": True,
            },
        ),
    )
    client.meta.events.register("before-send.s3", _Sending(web))
    return client, ClientError, BotoCoreError


@cache
def _models() -> Any:
    """The descriptions of Amazon's services, which take long to read."""
    from botocore.loaders import create_loader

    return create_loader()


def _root(endpoint: Uri) -> str:
    return f"{endpoint.scheme}://{endpoint.authority}{endpoint.path.rstrip('/')}"


class _Sending:
    """Carries a signed request of botocore through our connections."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def __call__(self, request: Any, **_: object) -> Any:
        uri = parse(request.url)
        headers = {
            name: value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
            if name.lower() not in ("host", "expect", "accept-encoding", "user-agent")
        }
        body = request.body
        content = None if body in (None, b"") else partial(_pieces, body)
        if content is None and request.method in ("PUT", "POST"):
            headers["Content-Length"] = "0"
        opened = ExitStack()
        answer = opened.enter_context(
            self._web.ask(request.method, uri, headers, content, follow=False)
        )
        if request.stream_output and answer.status < 300:
            return _answered(request.url, answer, answer.pieces, opened)
        data = bytearray()
        with opened:
            for piece in answer.pieces:
                data += piece
                if len(data) > _ANSWER:
                    raise LocalError(f"{uri}: the answer is too long", Code.STORE_REFUSED)
        return _answered(request.url, answer, iter([bytes(data)]), opened)


def _answered(url: str, answer: Answer, pieces: Iterator[bytes], opened: ExitStack) -> Any:
    from botocore.awsrequest import AWSResponse, HeadersDict

    raw = _Raw(pieces, opened)
    return AWSResponse(url, answer.status, HeadersDict(answer.headers), raw)


def _pieces(body: Any) -> Iterator[bytes]:
    if isinstance(body, bytes | bytearray):
        yield bytes(body)
        return
    body.seek(0)
    while piece := body.read(PIECE):
        yield piece
