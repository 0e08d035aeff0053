# SPDX-License-Identifier: Apache-2.0
"""Files fetched from a provider, which is a stranger: as many as were allowed, used when they are
what they should be, and resumed after any break. A fetch has one deadline, however many files.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote as percent

import httpx

from teraproof.client.transport import TRIES, Transport
from teraproof.errors import LocalError
from teraproof.protocol.digests import (
    Entry,
    Origin,
    encode_manifest,
    entries,
    file_digest,
    manifest,
    parse_manifest,
    result_digest,
)
from teraproof.protocol.errors import Code
from teraproof.trees import is_entry, keep_only

_MANIFEST_BYTES = 64 << 20
_EACH_SECONDS = 2.0  # that a file which has come whole earns for the next: each is a request


@dataclass(frozen=True)
class Most:
    """How much may be fetched."""

    size: int
    """Bytes, of all files together."""
    count: int
    """Files."""


class FetchedFiles:
    """See the module."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def result(
        self, place: str, query: str, origin: Origin, directory: Path, digest: bytes, most: Most
    ) -> list[Entry]:
        """A result below the path `place`, to `directory`, which appears when all of it is
        verified. Its manifest must have the `digest` of `origin`.
        """
        if directory.exists():
            here = entries(directory)
            if result_digest(encode_manifest(here), origin) != digest:
                raise LocalError(
                    f"{directory}: holds something else; name another directory",
                    Code.INPUT_INVALID,
                )
            return here
        with self._http.whole():
            return self._result(place, query, origin, directory, digest, most)

    def _result(
        self, place: str, query: str, origin: Origin, directory: Path, digest: bytes, most: Most
    ) -> list[Entry]:
        digest_of = partial(result_digest, origin=origin)
        listed = parse_manifest(
            attested(self._http, place + query, digest, _MANIFEST_BYTES, digest_of)
        )
        total = sum(entry.size for entry in listed)
        for what, there, allowed in (
            ("bytes", total, most.size),
            ("files", len(listed), most.count),
        ):
            if there > allowed:
                raise LocalError(
                    f"the result has {there} {what}, more than the {allowed} allowed",
                    Code.RESULT_MISMATCH,
                )
        begun = directory.with_name(directory.name + ".partial")
        files, parts = begun / "files", begun / "parts"
        keep_only(files, {entry.path for entry in listed})
        for folder in (files, parts):
            folder.mkdir(parents=True, exist_ok=True)
        for entry in listed:
            target = files / entry.path
            if is_entry(target, entry):
                continue
            part = parts / entry.sha256
            self._file(f"{place}/{percent(entry.path)}{query}", entry, part)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
        if result_digest(manifest(files), origin) != digest:
            raise LocalError(
                f"{files}: changed while it was fetched; delete {begun}, try again",
                Code.RESULT_MISMATCH,
            )
        files.replace(directory)
        shutil.rmtree(begun)
        return listed

    def named(self, place: str, wanted: Mapping[str, Entry], directory: Path, most: int) -> None:
        """Files below the path `place`, each under its sha256, here and there. What is in
        `directory` already is not fetched.
        """
        total = sum(entry.size for entry in wanted.values())
        if total > most:
            raise LocalError(
                f"the inputs have {total} bytes, more than the {most} allowed", Code.LIMIT_EXCEEDED
            )
        with self._http.whole():
            for sha256, entry in wanted.items():
                target = directory / sha256
                if not is_entry(target, entry):
                    part = directory / f"{sha256}.part"
                    self._file(f"{place}/{sha256}", entry, part)
                    part.replace(target)
        directory.mkdir(parents=True, exist_ok=True)

    def _file(self, path: str, entry: Entry, part: Path) -> None:
        for attempt in range(TRIES):
            held = part.stat().st_size if part.exists() else 0
            if held > entry.size:
                part.unlink()
                held = 0
            try:
                if held < entry.size or not part.exists():
                    self._append(path, entry, part, held)
            except httpx.TransportError as error:
                self._http.may_try(attempt, error)
                time.sleep(0.5 * 2**attempt)
                continue
            if file_digest(part).hex() == entry.sha256:
                self._http.earned(_EACH_SECONDS)
                return
            # Left over from another result, or a lie: start this file again.
            part.unlink()
        raise LocalError(
            f"{self._http.base_url}: {entry.path} is not as its manifest says", Code.RESULT_MISMATCH
        )

    def _append(self, path: str, entry: Entry, part: Path, held: int) -> None:
        headers = {"range": f"bytes={held}-"} if held else {}
        with self._http.stream("GET", path, headers=headers) as answer:
            if answer.status_code not in (200, 206):
                self._http.checked(self._http.bounded(answer))
            whole = answer.status_code == 200
            left = entry.size - (0 if whole else held)
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb" if whole else "ab") as file:
                # As it comes, not in even pieces: what has arrived is kept when the rest does not.
                for piece in self._http.pieces(answer):
                    left -= len(piece)
                    if left < 0:
                        raise LocalError(
                            f"{self._http.base_url}: {entry.path} is too long", Code.RESULT_MISMATCH
                        )
                    file.write(piece)


def attested(
    http: Transport, path: str, digest: bytes, most: int, digest_of: Callable[[bytes], bytes]
) -> bytes:
    """What lies at a path, at most `most` bytes, if it has the digest that the chain has."""
    data = http.read(path, most)
    if digest_of(data) != digest:
        what = "receipt" if path.endswith("/receipt") else "result"
        raise LocalError(
            f"{http.base_url}: the {what} is not the one attested on chain", Code.RESULT_MISMATCH
        )
    return data
