# SPDX-License-Identifier: Apache-2.0
"""The comparing program, given honest rounding and hostile bytes."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_agent.comparator.program import Tolerance, compare, main

NEAR = Tolerance(rtol=1e-5, atol=0.0)
EXACT = Tolerance(0.0, 0.0)
Bytes = bytes | str


def npy(values: Any, dtype: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values, dtype=dtype), allow_pickle=True)
    return file.getvalue()


def npz(deflate: bool = True, **arrays: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if deflate else 0) as packed:
        for name, data in arrays.items():
            packed.writestr(f"{name}.npy", data)
    return file.getvalue()


def tensors(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str, shape: list[int], first: int, last: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def raw_npy(header: bytes, data: bytes = b"", version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + size + header + data


@pytest.fixture
def verdict(tmp_path: Path) -> Callable[..., str]:
    def judge(kind: str, ours: Bytes, theirs: Bytes, near: Tolerance = NEAR) -> str:
        for name, data in (("ours", ours), ("theirs", theirs)):
            (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
        said, reason = compare(kind, tmp_path / "ours", tmp_path / "theirs", near)
        assert (said == "equal") is (reason == "") and "\n" not in reason and len(reason) < 200
        return said

    return judge


# ------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("a", "b", "near", "equal"),
    [
        (1.0, 1.0 + 9e-6, NEAR, True),
        (1.0, 1.0 + 11e-6, NEAR, False),
        (1.0, -1.0, NEAR, False),
        (0.0, -0.0, EXACT, True),
        (0.0, 1e-300, NEAR, False),
        (0.0, 1e-300, Tolerance(0, 1e-9), True),
        (math.nan, math.nan, NEAR, True),
        (math.nan, 1.0, Tolerance(0.9, 1e20), False),
        (math.inf, math.inf, NEAR, True),
        (math.inf, -math.inf, Tolerance(0.9, 1e20), False),
        (math.inf, 1.0, Tolerance(0.9, 1e20), False),
        (math.inf, math.nan, Tolerance(0.9, 1e20), False),
        (1.7e308, -1.7e308, Tolerance(0.9, 1e20), False),
        (5e-324, 0.0, EXACT, False),
    ],
)
def test_numbers__near_or_not__the_same_from_both_sides(
    verdict: Callable[..., str], a: float, b: float, near: Tolerance, equal: bool
) -> None:
    said = "equal" if equal else "different"
    for one, other in ((a, b), (b, a)):
        assert verdict("npy", npy([1, one], "<f8"), npy([1, other], "<f8"), near) == said
        assert verdict("json", json.dumps({"x": [one]}), json.dumps({"x": [other]}), near) == said


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", "<c16"])
def test_npy__floats_of_every_width__rounding_is_near(
    verdict: Callable[..., str], dtype: str
) -> None:
    ours = np.linspace(0.5, 2, 3_001).astype(dtype)
    step = np.finfo(ours.dtype).eps
    near, far = Tolerance(2.5 * float(step), 0), Tolerance(float(step) / 8, 0)
    theirs = (ours * (1 + step)).astype(dtype)
    assert ours.tobytes() != theirs.tobytes()
    assert verdict("npy", npy(ours, dtype), npy(theirs, dtype), near) == "equal"
    assert verdict("npy", npy(ours, dtype), npy(theirs, dtype), far) == "different"


@pytest.mark.parametrize("dtype", ["|i1", "|u1", "<i2", ">u2", "<i4", "<u4", "<i8", ">u8"])
def test_npy__integers__exact_or_near(verdict: Callable[..., str], dtype: str) -> None:
    top = int(np.iinfo(np.dtype(dtype)).max)
    ours, theirs = npy([0, top], dtype), npy([0, top - 1], dtype)
    assert verdict("npy", ours, theirs, EXACT) == "different"
    assert verdict("npy", ours, theirs, Tolerance(0, 1)) == "equal"


@pytest.mark.parametrize(("dtype", "a", "b"), [("|b1", 1, 0), ("<U3", "abc", "abd")])
def test_npy__what_is_no_number__exact(
    verdict: Callable[..., str], dtype: str, a: Any, b: Any
) -> None:
    near = Tolerance(0.9, 1e9)
    assert verdict("npy", npy([a], dtype), npy([b], dtype), near) == "different"
    assert verdict("npy", npy([a], dtype), npy([a], dtype), near) == "equal"


def test_npy__long_array__every_part_is_looked_at(verdict: Callable[..., str]) -> None:
    ours = np.zeros(700_001, "<f8")
    for place in (0, 131_072, 700_000):
        theirs = ours.copy()
        theirs[place] = 1
        assert verdict("npy", npy(ours, "<f8"), npy(theirs, "<f8")) == "different"


@pytest.mark.parametrize(
    ("dtype", "a", "b", "c"),
    [
        ("F64", struct.pack("<d", 1.0), struct.pack("<d", 1.0000001), struct.pack("<d", 1.1)),
        ("F32", struct.pack("<f", 1.0), struct.pack("<f", 1.000001), struct.pack("<f", 1.1)),
        ("F16", struct.pack("<e", 1.0), struct.pack("<e", 1.0), struct.pack("<e", 1.1)),
        ("BF16", b"\x80\x3f", b"\x80\x3f", b"\x90\x3f"),
        ("F8_E4M3", b"\x38", b"\x38", b"\x39"),
        ("F8_E5M2", b"\x3c", b"\x3c", b"\x3d"),
        ("I64", struct.pack("<q", 10**9), struct.pack("<q", 10**9 + 1), struct.pack("<q", 9)),
        ("BOOL", b"\x01", b"\x01", b"\x00"),
    ],
)
def test_safetensors__types(
    verdict: Callable[..., str], dtype: str, a: bytes, b: bytes, c: bytes
) -> None:
    def one(data: bytes) -> bytes:
        return tensors({"w": tensor(dtype, [1], 0, len(data))}, data)

    assert verdict("safetensors", one(a), one(b)) == "equal"
    assert verdict("safetensors", one(a), one(c)) == "different"


def test_safetensors__small_floats__have_their_values(verdict: Callable[..., str]) -> None:
    """Known values of the formats: 448 is the largest of E4M3, 1.5 is 0x3e in E5M2."""
    for dtype, one, other, distance in (
        ("F8_E4M3", b"\x7e", b"\x7d", 32),
        ("F8_E4M3", b"\x01", b"\x00", 2**-9),
        ("F8_E5M2", b"\x3e", b"\x3c", 0.5),
        ("BF16", b"\xc0\x3f", b"\x80\x3f", 0.5),
    ):
        head = {"w": tensor(dtype, [1], 0, len(one))}
        ours, theirs = tensors(head, one), tensors(head, other)
        assert verdict("safetensors", ours, theirs, Tolerance(0, distance)) == "equal"
        assert verdict("safetensors", ours, theirs, Tolerance(0, distance * 0.99)) == "different"
    nan = tensors({"w": tensor("F8_E4M3", [1], 0, 1)}, b"\x7f")
    other = tensors({"w": tensor("F8_E4M3", [1], 0, 1)}, b"\xff")
    assert verdict("safetensors", nan, other) == "equal"


def test_safetensors__order_in_the_file__does_not_count(verdict: Callable[..., str]) -> None:
    a, b = struct.pack("<f", 1.0), struct.pack("<f", 2.0)
    ours = tensors({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 4, 8)}, a + b)
    theirs = tensors({"b": tensor("F32", [1], 0, 4), "a": tensor("F32", [1], 4, 8)}, b + a)
    assert verdict("safetensors", ours, theirs) == "equal"
    swapped = tensors({"b": tensor("F32", [1], 0, 4), "a": tensor("F32", [1], 4, 8)}, a + b)
    assert verdict("safetensors", ours, swapped) == "different"


def test_npz__however_it_is_packed(verdict: Callable[..., str]) -> None:
    a, b = npy([1.0, 2.0]), npy([1.000001, 2.0])
    assert verdict("npz", npz(w=a, x=a), npz(False, x=a, w=b)) == "equal"
    assert verdict("npz", npz(w=a), npz(w=npy([1.1, 2.0]))) == "different"
    assert verdict("npz", npz(w=a), npz(w=a, x=a)) == "different"
    assert verdict("npz", npz(w=a), npz(v=a)) == "different"


# ------------------------------------------------------------------------ JSON


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ('{"a": 1, "b": [1.5, "x"]}', '{"b":[1.5000001,"x"],"a":1.0}', "equal"),
        ('{"a": 1}', '{"a": 1, "b": 2}', "different"),
        ("[1, 2]", "[1]", "different"),
        ("[1]", '{"0": 1}', "different"),
        ("1", "true", "different"),
        ("0", "false", "different"),
        ("0", "null", "different"),
        ('"1"', "1", "different"),
        ('"a"', '"b"', "different"),
        ("[[], {}]", "[{}, []]", "different"),
        ("[NaN, Infinity]", "[NaN, Infinity]  ", "equal"),
        ("[1e308]", "[1e309]", "different"),
        (f"[{10**200}]", f"[{10**200 + 1}]", "equal"),
        ('{"a": {"b": [1, {"c": 2}]}}', '{"a": {"b": [1, {"c": 3}]}}', "different"),
    ],
)
def test_json__values(verdict: Callable[..., str], a: str, b: str, said: str) -> None:
    assert verdict("json", a, b) == said


def test_json__large_integers__are_not_rounded_together(verdict: Callable[..., str]) -> None:
    assert verdict("json", f"{2**53}", f"{2**53 + 1}", EXACT) == "different"


HOSTILE_JSON = [
    "[" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 50_000 + "1" + "}" * 50_000,
    '{"a": 1, "a": 1}',
    "[" + "9" * 5_000 + "]",
    "[1e99999]",
    "{",
    "",
    b"\xff\xfe[]",
    b"\xef\xbb\xbf[]",
    "[01]",
    "[1,]",
    " " * (16 << 20) + "[1]",
]


@pytest.mark.parametrize("hostile", HOSTILE_JSON, ids=range(len(HOSTILE_JSON)))
def test_json__hostile__a_difference_if_theirs_and_nothing_to_compare_if_ours(
    verdict: Callable[..., str], hostile: Bytes
) -> None:
    assert verdict("json", "[1]", hostile) == "different"
    assert verdict("json", hostile, "[1]") == "cannot"
    assert verdict("json", hostile, hostile) == "cannot"


def test_json__wide_and_deep__within_the_bounds(verdict: Callable[..., str]) -> None:
    wide = "[" + "0," * 200_000 + "{}]"
    deep = "[" * 500 + "1" + "]" * 500
    assert verdict("json", wide, wide.replace("0", "0.0")) == "equal"
    assert verdict("json", deep, deep.replace("1", "1.0")) == "equal"
    assert verdict("json", deep, deep.replace("1", "2")) == "different"


# ------------------------------------------------------------------------ hostile arrays

GOOD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n"
DATA = struct.pack("<2f", 1.0, 2.0)


def header(shape: str = "(2,)", descr: str = "<f4", order: str = "False") -> bytes:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


HOSTILE_NPY = {
    "empty": b"",
    "another file": b"PK\x03\x04" + bytes(100),
    "unknown version": b"\x93NUMPY\x09\x00" + struct.pack("<H", len(GOOD)) + GOOD + DATA,
    "ends in the header": raw_npy(GOOD)[:30],
    "header of 4 GiB": b"\x93NUMPY\x02\x00" + b"\xff" * 4 + GOOD + DATA,
    "header of spaces": raw_npy(GOOD + b" " * 100_000, DATA, version=2),
    "shape lies: more": raw_npy(header("(3,)"), DATA),
    "shape lies: less": raw_npy(header("(1,)"), DATA),
    "shape lies: exabytes": raw_npy(header("(9999999999999999999, 9999999999)"), DATA),
    "shape of thousands": raw_npy(header("(" + "1, " * 9_000 + ")"), DATA),
    "negative shape": raw_npy(header("(-2,)"), DATA),
    "shape of a product that wraps": raw_npy(header("(4294967296, 4294967296)"), DATA),
    "truncated": raw_npy(GOOD, DATA[:-1]),
    "more behind": raw_npy(GOOD, DATA + b"x"),
    "objects": npy([{"a": 1}], "O"),
    "pickle under another name": raw_npy(header(descr="|O"), b"cos\nsystem\n(S'true'\ntR."),
    "structure": raw_npy(
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", DATA
    ),
    "code": raw_npy(b"{'descr': __import__('os').abort(), 'fortran_order': False, }", DATA),
    "key twice": raw_npy(b"{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }\n", DATA),
    "brackets": raw_npy(b"(" * 60_000, DATA, version=2),
    "width of zero": raw_npy(header(descr="<f0"), b""),
    "width of a gigabyte": raw_npy(header(descr="<f999999999"), DATA),
    "nul in the header": raw_npy(header().replace(b"}", b"}\x00"), DATA),
}


@pytest.mark.parametrize("name", HOSTILE_NPY)
def test_npy__hostile(verdict: Callable[..., str], name: str) -> None:
    good, hostile = raw_npy(GOOD, DATA), HOSTILE_NPY[name]
    assert verdict("npy", good, raw_npy(GOOD, DATA)) == "equal"
    assert verdict("npy", good, hostile) == "different"
    assert verdict("npy", hostile, good) == "cannot"
    assert verdict("npz", npz(w=good), npz(w=hostile)) == "different"
    assert verdict("npz", npz(w=hostile), npz(w=good)) == "cannot"


@pytest.mark.parametrize(
    "other",
    [
        header("(2, 1)"),
        header("(1, 2)"),
        header(descr=">f4"),
        header(descr="<i4"),
        header(order="True"),
        header("(4,)", "<f2"),
    ],
)
def test_npy__another_form__different(verdict: Callable[..., str], other: bytes) -> None:
    theirs = raw_npy(other, DATA)
    assert verdict("npy", raw_npy(GOOD, DATA), theirs, Tolerance(0.9, 1e20)) == "different"


BOMB = 128 << 20


@cache
def bomb(size: int) -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("w.npy", "w", force_zip64=True) as member,
    ):
        for piece in (raw_npy(GOOD), *[bytes(1 << 20)] * (size >> 20)):
            member.write(piece)
    return file.getvalue()


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


@cache
def hostile_npz() -> dict[str, bytes]:
    good = npz(False, w=raw_npy(GOOD, DATA))
    length = len(raw_npy(GOOD, DATA))
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as packed:
        packed.writestr("w.npy", raw_npy(GOOD, DATA))
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("w.npy", raw_npy(GOOD, DATA))
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as packed:
        for number in range(10_001):
            packed.writestr(str(number), b"")
    return {
        "empty": b"",
        "not a zip": b"PK\x05\x06" + b"\xff" * 18,
        "truncated": good[:-30],
        "a bomb": bomb(BOMB),
        "a name twice": twice.getvalue(),
        "members without end": many.getvalue(),
        "data does not match its checksum": changed(good, DATA, bytes(8)),
        "no member": npz(),
        "size lies": changed(good, struct.pack("<I", length), b"\xfe\xff\xff\xff"),
    }


@pytest.mark.parametrize("name", sorted(hostile_npz()))
def test_npz__hostile(verdict: Callable[..., str], name: str) -> None:
    good, hostile = npz(False, w=raw_npy(GOOD, DATA)), hostile_npz()[name]
    assert verdict("npz", good, good + b"") == "equal"
    assert verdict("npz", good, hostile) == "different"


def test_npz__bomb__is_not_unpacked(verdict: Callable[..., str]) -> None:
    """A member says how long it is, and its array must be as long."""
    hostile = bomb(BOMB)
    assert len(hostile) < BOMB // 500
    assert verdict("npz", hostile, hostile) == "cannot"


HOSTILE_TENSORS = {
    "empty": b"",
    "header longer than the file": struct.pack("<Q", 1 << 60) + b"{}",
    "header of the largest size": b"\xff" * 8 + b"{}",
    "not JSON": tensors(b"{"),
    "a list": tensors(b"[]"),
    "deep": tensors(b'{"w":' + b"[" * 100_000),
    "a key twice": tensors(
        b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        DATA,
    ),
    "gap": tensors({"w": tensor("F32", [2], 1, 9)}, b"x" + DATA),
    "overlap": tensors({"w": tensor("F32", [2], 0, 8), "x": tensor("F32", [1], 4, 8)}, DATA),
    "more behind": tensors({"w": tensor("F32", [2], 0, 8)}, DATA + b"x"),
    "truncated": tensors({"w": tensor("F32", [2], 0, 8)}, DATA[:-1]),
    "shape lies": tensors({"w": tensor("F32", [3], 0, 8)}, DATA),
    "negative": tensors({"w": tensor("F32", [-2], 8, 0)}, DATA),
    "negative twice": tensors({"w": tensor("F32", [-2, -1], 0, 8)}, DATA),
    "a number as a float": tensors({"w": {**tensor("F32", [2], 0, 8), "shape": [2.0]}}, DATA),
    "a truth as a number": tensors({"w": tensor("F32", [True, 2], 0, 8)}, DATA),
    "three offsets": tensors({"w": {**tensor("F32", [2], 0, 8), "data_offsets": [0, 8, 8]}}, DATA),
    "unknown type": tensors({"w": tensor("F31", [2], 0, 8)}, DATA),
    "type that is not a text": tensors({"w": {**tensor("F32", [2], 0, 8), "dtype": []}}, DATA),
    "more fields": tensors({"w": {**tensor("F32", [2], 0, 8), "x": 1}}, DATA),
    "no fields": tensors({"w": {}}, DATA),
    "dimensions": tensors({"w": tensor("F32", [1] * 100 + [2], 0, 8)}, DATA),
}


@pytest.mark.parametrize("name", HOSTILE_TENSORS)
def test_safetensors__hostile(verdict: Callable[..., str], name: str) -> None:
    good, hostile = tensors({"w": tensor("F32", [2], 0, 8)}, DATA), HOSTILE_TENSORS[name]
    assert verdict("safetensors", good, hostile) == "different"
    assert verdict("safetensors", hostile, good) == "cannot"


def test_safetensors__notes_of_another_text__different(verdict: Callable[..., str]) -> None:
    head = {"w": tensor("F32", [2], 0, 8)}
    ours = tensors({"__metadata__": {"format": "pt"}, **head}, DATA)
    assert verdict("safetensors", ours, tensors(head, DATA)) == "different"
    spaced = tensors(json.dumps({**head, "__metadata__": {"format": "pt"}}).encode() + b"  ", DATA)
    assert verdict("safetensors", ours, spaced) == "equal"


# ------------------------------------------------------------------------ a plan


def test_main__first_difference_decides__also_after_what_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"a": "[1]", "b": "[2]", "bad": "{"}
    for name, text in files.items():
        Path(name).write_text(text)

    def said(*pairs: tuple[str, str]) -> tuple[str, int]:
        rows = [{"kind": "json", "ours": a, "theirs": b} for a, b in pairs]
        Path("plan.json").write_text(json.dumps({"rtol": "1e-5", "atol": "0", "pairs": rows}))
        main("plan.json")
        found = json.loads(Path("verdict.json").read_text())
        return found["verdict"], found["pair"]

    assert said(("a", "a"), ("b", "b")) == ("equal", -1)
    assert said(("a", "a"), ("a", "b"), ("bad", "a")) == ("different", 1)
    assert said(("bad", "a"), ("a", "a")) == ("cannot", 0)
    assert said(("bad", "a"), ("a", "a"), ("a", "b")) == ("different", 2)
