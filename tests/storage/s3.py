# SPDX-License-Identifier: Apache-2.0
"""A bucket of the tests, and what was asked of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from teraproof.storage.access import Access
from teraproof.storage.limits import Limits
from teraproof.storage.reach import Reach
from teraproof.storage.s3_store import S3Store
from teraproof.storage.uris import parse
from teraproof.storage.web import Web

KEY_ID, SECRET, TOKEN = "KEY-ID-HUSH", "SECRET-HUSH", "TOKEN-HUSH"
PART = 5 << 20  # the smallest that S3 admits


@dataclass
class Place:
    """`client` is boto3's own, with its own connections."""

    uri: str
    access: Access
    client: Any
    bucket: str
    asked: Counter[str] = field(default_factory=Counter)
    opened: list[S3Store] = field(default_factory=list)

    def open(self, key: str = "", limits: Limits | None = None) -> S3Store:
        """A store that counts its requests by operation."""
        web = Web(Reach.own(), limits or Limits())
        store = S3Store(parse(f"{self.uri}/{key}"), web, self.access, PART)
        store._client.meta.events.register(
            "before-call.s3", lambda model, **_: self.asked.update([model.name])
        )
        self.opened.append(store)
        return store

    def body(self, key: str) -> bytes:
        """An object's bytes."""
        return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def close(self) -> None:
        for store in self.opened:
            store.close()
