# SPDX-License-Identifier: Apache-2.0
"""Specifications as files, by the sha256 of their bytes: they outlive the database."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from provider_agent.durable import sync_directory

FOLDER = "specs"


def path_of(folder: Path, digest: bytes) -> Path:
    """Where a specification lies under the data directory."""
    return folder / FOLDER / digest.hex()


def write(folder: Path, digest: bytes, body: bytes) -> None:
    """Keep a specification, durably and whole or not at all."""
    place = path_of(folder, digest)
    if read(folder, digest) == body:
        return
    place.parent.mkdir(mode=0o700, exist_ok=True)
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        with open(part, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)
    sync_directory(place.parent)


def read(folder: Path, digest: bytes) -> bytes | None:
    """The bytes of a specification; None where they are missing or damaged."""
    try:
        body = path_of(folder, digest).read_bytes()
    except FileNotFoundError:
        return None
    return body if hashlib.sha256(body).digest() == digest else None


def drop(folder: Path, digest: bytes) -> None:
    """Delete a specification if it is there."""
    path_of(folder, digest).unlink(missing_ok=True)


def found(folder: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """The digests of all files here, with size and time."""
    place = folder / FOLDER
    if not place.is_dir():
        return
    with os.scandir(place) as entries:
        for entry in entries:
            if len(entry.name) == 64 and not entry.name.startswith("."):
                yield bytes.fromhex(entry.name), entry.stat()
