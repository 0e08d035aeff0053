# SPDX-License-Identifier: Apache-2.0
"""Which paths a job may have: one rule for inputs, outputs and manifests.

Needs nothing but the standard library, so that a run's supervisor starts quickly.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import ClassVar

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

MAX_PATH_BYTES = 1_024
MAX_PART_BYTES = 255
# Each level holds a descriptor or two open while a tree is walked.
MAX_DEPTH = 32

# Control and format characters, line and paragraph separators, surrogates, the backslash. They are
# listed, as in the schema of job specifications: what Unicode assigns later changes no verdict.
_UNFIT = re.compile(
    r"[\x00-\x1f\\\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0001\U000e0020-\U000e007f]"
)


class UnfitTree(LocalError):
    """A path, or a tree of files, that no manifest can describe. Reading it again will not help."""

    default: ClassVar[Code] = Code.PATH_UNFIT


def check_path(path: object) -> str:
    """Return `path` when it is a clean relative POSIX path, else raise UnfitTree.

    The one rule for inputs, outputs and manifests: what passes here passes everywhere.

    Clean: no empty, "." or ".." part, no leading or trailing slash, no backslash or control
    character, Unicode in NFC, at most 1,024 bytes, 255 a part and 32 parts.
    """
    if not isinstance(path, str) or not path:
        raise UnfitTree("empty path; name a file or directory")
    shown = ascii(path if len(path) <= 80 else path[:77] + "...")
    if path.startswith("/"):
        raise UnfitTree(f"path {shown} is absolute; make it relative")
    if _UNFIT.search(path):
        raise UnfitTree(f"path {shown} holds a control character or backslash; rename it")
    if unicodedata.normalize("NFC", path) != path:
        raise UnfitTree(f"path {shown} is not in Unicode NFC; rename it")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise UnfitTree(f"path {shown} is longer than {MAX_PATH_BYTES} bytes; shorten it")
    parts = path.split("/")
    if len(parts) > MAX_DEPTH:
        raise UnfitTree(f"path {shown} has more than {MAX_DEPTH} parts; shorten it")
    for part in parts:
        if part in ("", ".", ".."):
            raise UnfitTree(f"path {shown} has a part {part!r}; write it without")
        if len(part.encode()) > MAX_PART_BYTES:
            raise UnfitTree(f"path {shown} has a part longer than {MAX_PART_BYTES} bytes")
    return path


def check_tree(paths: Iterable[str]) -> None:
    """Refuse paths that cannot stand side by side: twins, or a file inside another file."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise UnfitTree(f"path {path!r} is named twice")
        seen.add(path)
    # Folders are looked up, not kept: of 100,000 paths they may take hundreds of MiB.
    both = sorted(parent for path in seen for parent in _parents(path) if parent in seen)
    if both:
        raise UnfitTree(f"path {both[0]!r} also stands above another path; rename one")


def _parents(path: str) -> Iterator[str]:
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)
