# SPDX-License-Identifier: Apache-2.0
"""One object at a URI of http(s): GET with ranges, HEAD and PUT. HTTP cannot list what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.objects import Body, Source
from teraproof.storage.uris import Uri
from teraproof.storage.web import Answer, Web, refusal

_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_OK, _PARTIAL, _EXISTS, _BEYOND = 200, 206, 412, 416


class HttpStore:
    """See `Store`. Keys are added to the path."""

    def __init__(self, uri: Uri, web: Web) -> None:
        self.uri, self._web = uri, web

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    def cut_off(self) -> None:
        """See `Store`."""
        self._web.cut_off()

    def size(self, key: str) -> int | None:
        """By HEAD; None as well where the server does not say it."""
        with self._web.ask("HEAD", self._at(key)) as answer:
            if answer.status == _OK:
                return answer.number("content-length")
            error = refusal(answer.uri, answer.status)
            if error.code is Code.OBJECT_MISSING:
                return None
            raise error

    @contextmanager
    def read(self, key: str, start: int) -> Iterator[Body]:
        """By GET; a server without ranges begins at byte 0."""
        headers = {"range": f"bytes={start}-"} if start else {}
        with self._web.ask("GET", self._at(key), headers) as answer:
            if answer.status == _BEYOND and start:
                # Another, shorter object: its size is what matters.
                raise LocalError(f"{answer.uri}: is shorter than it was", Code.DIGEST_MISMATCH)
            if answer.status not in (_OK, _PARTIAL):
                raise refusal(answer.uri, answer.status)
            if answer.headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise LocalError(f"{answer.uri}: is packed on the way", Code.STORE_REFUSED)
            if answer.status == _PARTIAL:
                begin, size = _place(answer)
            else:
                begin, size = 0, answer.number("content-length")
            yield Body(begin, size, answer.pieces)

    def write(self, key: str, source: Source, *, new: bool = False) -> bool:
        """By PUT, from the beginning each time."""
        headers = {
            "content-length": str(source.named.size),
            "content-type": "application/octet-stream",
        }
        if new:
            headers["if-none-match"] = "*"
        with self._web.ask("PUT", self._at(key), headers, source.pieces) as answer:
            if new and answer.status == _EXISTS:
                return False
            if answer.status >= 300:
                raise refusal(answer.uri, answer.status)
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """Refused: there is no such request."""
        raise self._unable("list")

    def delete(self, key: str) -> None:
        """Refused: nothing here is deleted by a URI that may be a stranger's."""
        raise self._unable("delete")

    def _at(self, key: str) -> Uri:
        if not key:
            return self.uri
        return replace(self.uri, path=f"{self.uri.path.rstrip('/')}/{key}")

    def _unable(self, what: str) -> LocalError:
        return LocalError(
            f"{self.uri}: HTTP cannot {what} objects; use s3:// or file://", Code.URI_REFUSED
        )


def _place(answer: Answer) -> tuple[int, int | None]:
    """Where a part begins, and the size of the whole."""
    found = _RANGE.fullmatch(answer.headers.get("content-range", "").strip())
    if found is None:
        raise LocalError(f"{answer.uri}: answers with a part of nothing", Code.STORE_REFUSED)
    return int(found[1]), None if found[3] == "*" else int(found[3])
