# SPDX-License-Identifier: Apache-2.0
"""Credentials of an S3-compatible store. They stand in no URI, in no error and in no log."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.uris import Uri, parse

_MOST_BYTES = 16 << 10
_FIELDS = ("key_id", "secret", "token", "region", "endpoint")
_VARIABLES = {
    "key_id": ("AWS_ACCESS_KEY_ID",),
    "secret": ("AWS_SECRET_ACCESS_KEY",),
    "token": ("AWS_SESSION_TOKEN",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
}


@dataclass(frozen=True)
class Access:
    """How a store is opened. Without a key requests are not signed: for public buckets."""

    key_id: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    region: str = "us-east-1"
    endpoint: Uri | None = None
    """Where the store is; None: Amazon's."""

    @classmethod
    def of(cls, values: Mapping[str, str], where: str) -> Access:
        """From values by name. LocalError names the field and never repeats a value."""
        for name in values:
            if name not in _FIELDS:
                raise _wrong(f"{where}: knows {', '.join(_FIELDS)}; there is another field")
        given = {name: value for name, value in values.items() if value}
        if ("key_id" in given) != ("secret" in given):
            raise _wrong(f"{where}: key_id and secret belong together; give both")
        for name, value in given.items():
            if not value.isascii() or not value.isprintable() or " " in value:
                raise _wrong(f"{where}: {name} holds a character that cannot be")
        endpoint = given.pop("endpoint", None)
        return cls(**given, endpoint=None if endpoint is None else _endpoint(endpoint, where))

    def values(self) -> dict[str, str]:
        """By name, as `of` takes them. They are secret."""
        found = {name: getattr(self, name) for name in _FIELDS}
        found["endpoint"] = "" if self.endpoint is None else str(self.endpoint)
        return {name: str(value) for name, value in found.items() if value}

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> Access:
        """From the variables that Amazon's tools read."""
        found = {
            name: next((environ[each] for each in known if environ.get(each)), "")
            for name, known in _VARIABLES.items()
        }
        return cls.of(found, "the environment's AWS_ variables")

    @classmethod
    def of_file(cls, path: Path) -> Access:
        """From a JSON object in a file that is its user's alone."""
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise _wrong(f"{path}: cannot be read ({error.strerror})") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise _wrong(f"{path}: others may read it; run: chmod 600 {path}")
        try:
            values = json.loads(data) if len(data) <= _MOST_BYTES else None
        except (ValueError, RecursionError):
            values = None
        fields: dict[str, Any] = values if isinstance(values, dict) else {"": None}
        if not all(isinstance(each, str) for each in fields.values()):
            raise _wrong(f"{path}: expected a JSON object of texts: {', '.join(_FIELDS)}")
        return cls.of(fields, str(path))


def _endpoint(text: str, where: str) -> Uri:
    try:
        found = parse(text)
    except LocalError as error:
        raise _wrong(f"{where}: endpoint: {error}") from None
    if found.scheme not in ("https", "http") or found.query:
        raise _wrong(f"{where}: endpoint: expected https://host or http://host")
    return found


def _wrong(line: str) -> LocalError:
    return LocalError(line, Code.INPUT_INVALID)
