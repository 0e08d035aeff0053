# SPDX-License-Identifier: Apache-2.0
"""Members of a stranger's JSON objects, each read or refused; for what travels about payments.

Each LocalError names the member. Amounts may be decimal text or JSON integers.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from teraproof import nesting
from teraproof.errors import LocalError
from teraproof.protocol import signatures
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import uint, word

_NUMBER = re.compile(r"0|[1-9][0-9]{0,77}")
_WORD = re.compile(r"0x[0-9a-fA-F]{64}")


def object_of(value: object, name: str) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise LocalError(f"{name}: not an object", Code.INPUT_INVALID)
    return value


def text_of(found: Mapping[str, Any], name: str) -> str:
    """A text."""
    value = found.get(name)
    if not isinstance(value, str):
        raise LocalError(f"{name}: not text", Code.INPUT_INVALID)
    return value


def texts_of(found: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts; empty where it is missing."""
    value = found.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise LocalError(f"{name}: not a list of texts", Code.INPUT_INVALID)
    return tuple(value)


def word_of(found: Mapping[str, Any], name: str) -> bytes:
    """32 bytes, from 0x and 64 hex digits."""
    value = found.get(name)
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise LocalError(f"{name}: not 0x and 64 hex digits", Code.INPUT_INVALID)
    return word(name, bytes.fromhex(value[2:]))


def amount_of(
    found: Mapping[str, Any], name: str, missing: int | None = None, bits: int = 256
) -> int:
    """An unsigned number of `bits`."""
    value = found.get(name, missing)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    return uint(name, value, bits)


def signature_of(found: Mapping[str, Any], name: str = "signature") -> bytes:
    """A key's signature in the contracts' form, from any form that wallets write."""
    return signatures.normalised(signatures.read(text_of(found, name)))


def to_base64(document: Mapping[str, Any]) -> str:
    """JSON in base64, for a header."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(text.encode()).decode("ascii")


def from_base64(value: str, name: str, most: int) -> Mapping[str, Any]:
    """The inverse; `most` are the characters that are read."""
    if len(value) > most:
        raise LocalError(f"{name}: longer than {most} characters", Code.INPUT_INVALID)
    try:
        found = nesting.loads(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise LocalError(f"{name}: not JSON in base64", Code.INPUT_INVALID) from None
    return object_of(found, name)
