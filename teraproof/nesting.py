# SPDX-License-Identifier: Apache-2.0
"""JSON of strangers, read without trust in Python's limit of recursion.

Libraries raise that limit for the whole program. Then brackets that are thousands deep end the
program, and no error is raised. So the depth is looked at before anything is read.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

DEEPEST = 200
"""More than any document of ours has."""
_BRACKET = re.compile(r"[\[\]{}]")


def loads(data: bytes | str, **options: Any) -> Any:
    """As `json.loads`, with its options and errors. RecursionError for what is nested too deep."""
    if isinstance(data, bytes):
        data = data.decode(json.detect_encoding(data), "surrogatepass")
    # Whatever stands in texts, there are no more brackets than these.
    if data.count("[") + data.count("{") > DEEPEST and _depth(data) > DEEPEST:
        raise RecursionError("nested too deep")
    return json.loads(data, **options)


def finite(data: bytes | str) -> Any:
    """As `loads`, and ValueError for a number that JSON does not have: NaN, Infinity, 1e999. It
    would be passed on as a word that other programs end at.
    """
    return loads(data, parse_constant=_constant, parse_float=_float)


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _float(literal: str) -> float:
    found = float(literal)
    if not math.isfinite(found):
        raise ValueError(f"{literal[:40]} is too large a number")
    return found


def _depth(text: str) -> int:
    """How deep brackets outside of texts are nested, up to `DEEPEST` and one more."""
    depth = most = 0
    # Up to a backslash outside of a text, where a reader stops, this is exact.
    bare = text.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    for found in _BRACKET.finditer("".join(bare)):
        depth += 1 if found[0] in "[{" else -1
        most = max(most, depth)
        if most > DEEPEST:
            break
    return most
