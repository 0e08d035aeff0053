# SPDX-License-Identifier: Apache-2.0
"""Job specifications that are nearly valid: a valid one, changed in a few places."""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from eth_utils.address import to_checksum_address
from hypothesis import strategies as st

Document = Any

OWNERS = sorted((to_checksum_address("0x" + f"{n:02x}" * 20) for n in range(1, 6)), key=str.lower)

VALID: dict[str, Any] = {
    "version": 1,
    "kind": "train",
    "name": "a job",
    "runtime": "python-ml",
    "command": ["python", "-c", "print(1)\n"],
    "env": {"A": "1", "B_2": ""},
    "inputs": [
        {"path": "data/a.csv", "sha256": "a" * 64, "size": 1},
        {"path": "main.py", "sha256": "0" * 64, "size": 0},
    ],
    "outputs": ["out", "log/x"],
    "resources": {"cpus": 1, "memory_mb": 64, "disk_mb": 64, "gpus": 0},
    "timeout_seconds": 60,
    "deterministic": True,
    "network": False,
    "allow": OWNERS[:2],
    "compare": {"rule": "numeric", "rtol": "1e-5", "atol": "0"},
}

# One of each category that a rule speaks of, and neighbours.
_CHARACTERS = [
    *"aZ09_-. /\\\t\n\r\x00\x1f\x7f\x80\x9f\xa0\xad",
    *"ée\u0301\u200b\u200d\u2028\u2029\u202e\ufeff\ufffd\u0600\u1680",
    *"\ud800\udfff\U000110bd\U0001343f\U000e0001\U000e0041\U0001f600\U0010ffff",
]
_texts = st.text(st.sampled_from(_CHARACTERS) | st.characters(codec=None), max_size=6)
_parts = st.sampled_from(["a", "b", "..", ".", "", "...", "é", "x" * 255, "x" * 256]) | _texts
_paths = st.lists(_parts, min_size=1, max_size=4).map("/".join) | st.sampled_from(
    ["/a", "a/", "a//b", "a" * 1_024, "a/" * 31 + "a", "a/" * 32 + "a", "out/x", "data", "out"]
)
_integers = st.sampled_from(
    [-1, 0, 1, 15, 16, 64, 65, 1_024, 1_025, 2**24, 2**24 + 1, 31_536_000, 31_536_001]
    + [2**40, 2**40 + 1, 2**53 - 1]
)
_others: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | _integers | _texts | st.just([]) | st.just({})
)
_tolerances = st.sampled_from(
    ["0", "1", "9" * 20, "9" * 21, "0.5", "0.50", "1.0", ".5", "5.", "00", "0.0", "1e-5", "1e5"]
    + ["1e-05", "1e+5", "1e-0", "1e99", "1e100", "10e-5", "1.5e-7", "1.50e-7", "-1", "1e-5\n"]
    + ["nan", "inf", "0x1", "1_0", " 1", "1E-5", "0." + "0" * 19 + "1", "0." + "0" * 20 + "1"]
)
_addresses = st.sampled_from(
    [*OWNERS, OWNERS[3].lower(), "0x" + "AB" * 20, "0x12", OWNERS[0] + "\n", "0X" + "11" * 20]
)


def _set(*path: Any) -> Callable[[Document, Any], None]:
    def change(document: Document, value: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return change


def _drop(document: Document, field: str) -> None:
    document.pop(field, None)


_names = st.sampled_from(["a" * 80, "a" * 81, " a", "a\n", "", "A.b_c-d 1"]) | _texts
_CHANGES: list[tuple[Callable[[Document, Any], None], st.SearchStrategy[Any]]] = [
    (_set("version"), st.sampled_from([1, 2, "1", True])),
    (_set("kind"), st.sampled_from(["batch", "Batch", "", 1])),
    (_set("name"), _names),
    (_set("runtime"), st.sampled_from(["a" * 64, "a" * 65, "A", "a\n", "-a"]) | _texts),
    (_set("command"), st.lists(_texts, max_size=3)),
    (_set("command"), st.sampled_from([["a"] * 256, ["a"] * 257, ["a" * 8_192], ["a" * 8_193]])),
    (_set("env"), st.dictionaries(st.sampled_from(["A", "a", "A\n", "_", "1"]) | _texts, _texts)),
    (_set("env"), st.integers(63, 65).map(lambda n: {f"V{i}": "x" for i in range(n)})),
    (_set("env", "A"), st.sampled_from(["x" * 4_096, "x" * 4_097]) | _texts),
    (_set("inputs", 0, "path"), _paths),
    (_set("inputs", 0, "sha256"), st.sampled_from(["A" * 64, "a" * 63, "a" * 64 + "\n", "f" * 64])),
    (_set("inputs", 0, "size"), _integers),
    (_set("inputs", 1), st.sampled_from([{}, {**VALID["inputs"][1], "mode": 1}, None])),
    (_set("outputs"), st.lists(_paths, max_size=3)),
    (_set("outputs"), st.integers(63, 65).map(lambda n: [f"o{i}" for i in range(n)])),
    *(
        (_set("resources", name), _integers)
        for name in ("cpus", "memory_mb", "disk_mb", "gpus", "tpus")
    ),
    (_set("timeout_seconds"), _integers),
    (_set("deterministic"), st.sampled_from([True, False, 0, 1, None])),
    (_set("network"), st.sampled_from([False, True, 0, "false"])),
    (_set("allow"), st.lists(_addresses, max_size=3)),
    (_set("compare"), st.sampled_from([{"rule": "exact"}, {"rule": "exact", "rtol": "0"}, {}])),
    (_set("compare"), st.sampled_from([{"rule": "numeric"}, {"rule": "other"}, {"rtol": "0"}])),
    (_set("compare", "rtol"), _tolerances | _others),
    (_set("compare", "atol"), _tolerances | _others),
    (_set("compare", "more"), _others),
    (_set("more"), _others),
    (_drop, st.sampled_from(sorted(VALID))),
]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A document, and seldom one that is far from valid."""
    document = copy.deepcopy(VALID)
    for change, values in draw(st.lists(st.sampled_from(_CHANGES), max_size=3)):
        try:
            change(document, draw(values))
        except (KeyError, TypeError, IndexError):
            continue  # an earlier change took the place away
    if draw(st.integers(0, 19)) == 0:
        document[draw(st.sampled_from(sorted(VALID)))] = draw(_others)
    return document


def beyond_a_schema(document: Document) -> Iterator[str]:
    """Rules of docs/jobs.md that no schema can say and that a document of a valid form breaks."""
    inputs, outputs = [item["path"] for item in document["inputs"]], document["outputs"]
    paths = inputs + outputs
    if any(unicodedata.normalize("NFC", path) != path for path in paths):
        yield "NFC"
    if any(len(path.encode()) > 1_024 for path in paths):
        yield "bytes of a path"
    if any(len(part.encode()) > 255 for path in paths for part in path.split("/")):
        yield "bytes of a part"
    if len(set(paths)) < len(paths):
        yield "twice the same path"
    if any(other.startswith(path + "/") for path in paths for other in paths):
        yield "a path above another"
    allow = document.get("allow", [])
    if allow != sorted(set(allow), key=str.lower):
        yield "order of the list"
    if any(to_checksum_address(owner) != owner for owner in allow):
        yield "checksum"
