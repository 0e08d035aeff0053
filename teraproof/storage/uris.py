# SPDX-License-Identifier: Apache-2.0
"""The URIs of objects: `https://`, `http://`, `s3://bucket/key` and `file:///path`, one spelling.

A URI holds no user and no password. What follows its `?` may be a signature that opens the object,
so it is sent and never shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

MAX_URI = 8_192
MAX_KEY_BYTES = 1_024
SCHEMES = ("https", "http", "s3", "file")

_PRINTABLE = re.compile(r"[!-\[\]-~]*")  # no blank, control character, backslash or umlaut
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9.])?|[0-9a-f:.]*:[0-9a-f:.]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Uri:
    """A URI that may be used. `parse` makes one; `str` shows it without what may be secret."""

    scheme: str
    host: str
    """Of http(s) in lower case; the bucket of s3; empty for files."""
    port: int
    """Of http(s); 0 otherwise."""
    path: str
    """Of http(s) as it is sent; the key of s3; the absolute path of a file."""
    query: str = field(default="", repr=False)

    @property
    def target(self) -> str:
        """What an HTTP request asks for."""
        return self.path + (f"?{self.query}" if self.query else "")

    @property
    def authority(self) -> str:
        """The Host header of an HTTP request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS.get(self.scheme) else f"{host}:{self.port}"

    @property
    def file(self) -> Path:
        """Where a file is."""
        return Path(self.path)

    def joined(self, location: str) -> Uri:
        """Where a redirect leads. LocalError when that is not a URI of http(s)."""
        base = f"{self.scheme}://{self.authority}{self.target}"
        try:
            found = parse(urljoin(base, location))
        except (ValueError, LocalError):
            found = None
        if found is None or found.scheme not in _PORTS:
            raise LocalError(f"{self}: redirects to what is not HTTP", Code.URI_REFUSED)
        return found

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file://{self.path}"
        place = self.host if self.scheme == "s3" else self.authority
        slash = "/" if self.scheme == "s3" else ""
        return f"{self.scheme}://{place}{slash}{self.path}{'?...' if self.query else ''}"


def parse(text: str) -> Uri:
    """Read a URI. LocalError is one line that does not repeat it: it may hold a password."""
    if len(text) > MAX_URI:
        raise _wrong(f"has more than {MAX_URI} characters")
    scheme, separator, _ = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise _wrong("does not begin with https://, http://, s3:// or file://")
    if scheme == "s3":
        return _s3(text)
    if not _PRINTABLE.fullmatch(text):
        raise _wrong("holds a blank or a character that has to be percent-encoded")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _wrong("has a host or a port that cannot be") from None
    if parts.username is not None or parts.password is not None:
        raise _wrong("holds a user or a password; give credentials apart from it")
    if parts.fragment or text.endswith("#"):
        raise _wrong("has a part after #; leave it out")
    if scheme == "file":
        return _file(host, parts.path, parts.query)
    if not _HOST.fullmatch(host) or port == 0:
        raise _wrong("has a host or a port that cannot be")
    return Uri(scheme, host, port or _PORTS[scheme], parts.path or "/", parts.query)


def _s3(text: str) -> Uri:
    bucket, _, key = text.partition("://")[2].partition("/")
    if "@" in bucket:
        raise _wrong("holds a user or a password; give credentials by --access")
    if not bucket:
        raise _wrong("names no bucket; write s3://bucket/key")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        line = "has a wrong name; give 3 to 63 lower-case letters, digits, dots or dashes"
        raise LocalError(f"the URI's bucket {line}", Code.URI_INVALID)
    if re.search(r"[\x00-\x1f\x7f\\?#]", key) or not _encodable(key):
        raise _wrong("has a key with a control character or one of \\ ? #; rename it")
    if len(key.encode()) > MAX_KEY_BYTES or {".", ".."} & set(key.split("/")):
        raise _wrong(f"has a key with a part . or .., or of more than {MAX_KEY_BYTES} bytes")
    return Uri("s3", bucket, 0, key.rstrip("/"))


def _file(host: str, path: str, query: str) -> Uri:
    found = unquote(path, errors="surrogateescape")
    if host not in ("", "localhost") or query or not found.startswith("/") or "\0" in found:
        raise _wrong("names no file of this machine; write file:///path")
    return Uri("file", "", 0, found)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(what: str) -> LocalError:
    return LocalError(f"the URI {what}", Code.URI_INVALID)
