# SPDX-License-Identifier: Apache-2.0
"""Compares files whose bytes differ, number by number. Runs in the sandbox of jobs.

    python -I -S program.py plan.json        writes verdict.json

Both sides are strangers' bytes: ours were made by a stranger's program. Nothing is unpickled, what
is read at once has a bound, and a claim (a shape, a size, a count) is checked before it is used.
Ours is read first. What cannot be read there cannot be compared; what cannot be read in theirs
alone, or takes another form there, is a difference. This file needs Python's own library alone,
and may run on another Python than the agent's.
"""

from __future__ import annotations

import json
import math
import re
import struct
import sys
import zipfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

EQUAL, DIFFERENT, CANNOT = "equal", "different", "cannot"

JSON_BYTES = 16 << 20
HEADER_BYTES = 64 << 10  # of an array; NumPy itself takes 10,000 characters
TENSOR_HEADER_BYTES = 16 << 20
MEMBERS = 10_000
DIGITS = 300  # of an integer in JSON: below the range of a double
DIMENSIONS = 64
CHUNK = 1 << 20  # bytes; a multiple of every size of an element
_LITTLE = sys.byteorder == "little"


class Unfit(Exception):
    """What is wrong with a file, in a few words of ours."""


class _Ends(Exception):
    """The verdict on a pair of files, with its reason."""

    def __init__(self, verdict: str, reason: str) -> None:
        super().__init__(reason)
        self.verdict, self.reason = verdict, reason


class Source(Protocol):
    """Whatever bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class Tolerance(NamedTuple):
    """|a - b| <= atol + rtol * max(|a|, |b|)"""

    rtol: float
    atol: float

    def near(self, a: Any, b: Any) -> bool:
        """Whether two numbers that are not equal are near enough; NaN is near NaN."""
        distance = abs(a - b)
        if distance <= self.atol:
            return True
        most = max(abs(a), abs(b))
        if most < math.inf and distance <= self.atol + self.rtol * most:
            return True
        return bool(a != a and b != b)

    def first_far(self, a: Sequence[Any], b: Sequence[Any]) -> int | None:
        """The first place at which two rows of numbers are not near each other."""
        for place, (one, other) in enumerate(zip(a, b)):  # noqa: B905 - equally long; Python 3.9
            if one != other and not self.near(one, other):
                return place
        return None


@contextmanager
def _reading(ours: bool) -> Iterator[None]:
    """Whatever goes wrong inside is that side's doing: its bytes are all that can be at fault."""
    whose = "ours" if ours else "theirs"
    try:
        yield
    except (_Ends, MemoryError):
        raise  # whose doing it is that memory is short, a second look decides (see `compare`)
    except Unfit as error:
        raise _Ends(CANNOT if ours else DIFFERENT, f"{whose} {error}") from None
    except Exception as error:  # noqa: BLE001 - of any library, about bytes of any kind
        reason = f"{whose} cannot be read ({type(error).__name__})"
        raise _Ends(CANNOT if ours else DIFFERENT, reason) from None


# ------------------------------------------------------------------------ JSON


def read_json(file: Source, most: int = JSON_BYTES) -> Any:
    """A document whose keys stand once and whose numbers fit. Raises Unfit."""
    data = file.read(most + 1)
    if len(data) > most:
        raise Unfit(f"is longer than {most} bytes")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Unfit("has a key twice")
        return found

    def integer(digits: str) -> int:
        if len(digits) > DIGITS:
            raise Unfit(f"has an integer of more than {DIGITS} digits")
        return int(digits)

    def real(digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            raise Unfit("has a number beyond the range of a double")
        return number

    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=unique, parse_int=integer, parse_float=real
        )
    except Unfit:
        raise
    except RecursionError:
        raise Unfit("is nested too deep") from None
    except ValueError:
        raise Unfit("is not JSON") from None


def _compare_json(ours: IO[bytes], theirs: IO[bytes], near: Tolerance) -> None:
    with _reading(ours=True):
        a = read_json(ours)
    with _reading(ours=False):
        b = read_json(theirs)
    where: list[Any] = []
    # Iterators, not lists of what is to do: a document of many small values costs no more twice.
    stack: list[Iterator[tuple[Any, Any, Any]]] = [iter([("", a, b)])]
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
            if where:
                where.pop()
            continue
        key, a, b = item
        if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            stack.append(zip(a, a.values(), map(b.__getitem__, a)))  # noqa: B905
            where.append(key)
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            stack.append(zip(range(len(a)), a, b))  # noqa: B905
            where.append(key)
        elif not _same_value(a, b, near):
            path = "/".join(str(part) for part in [*where, key])
            raise _Ends(DIFFERENT, f"the value at {_shown(path or '/')} differs")


def _same_value(a: Any, b: Any, near: Tolerance) -> bool:
    numbers = (int, float)
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, numbers) and isinstance(b, numbers):
        return bool(a == b) or near.near(a, b)
    return type(a) is type(b) and not isinstance(a, (dict, list)) and bool(a == b)


# ------------------------------------------------------------------------ arrays


class Array(NamedTuple):
    """What an array claims to be, and a way to its bytes."""

    form: tuple[Any, ...]
    """Type, shape, order: what must agree."""
    size: int
    """Bytes."""
    decode: Callable[[bytes], Sequence[Any]] | None
    """Numbers of a piece of it; None where only equal bytes will do."""
    open: Callable[[], Source]
    """A stream that begins with its first byte."""


def _plain(code: str, swap: bool) -> Callable[[bytes], Sequence[Any]]:
    def decode(data: bytes) -> Sequence[Any]:
        found = array(code)
        found.frombytes(data)
        if swap:
            found.byteswap()
        return found

    return decode


def _by_table(table: Sequence[float], code: str, swap: bool) -> Callable[[bytes], Sequence[Any]]:
    numbers = _plain(code, swap)
    return lambda data: [table[bits] for bits in numbers(data)]


_halves: dict[str, Sequence[float]] = {}


def _table(kind: str) -> Sequence[float]:
    """All values of a small float, by their bits."""
    if kind not in _halves:
        if kind == "F16":
            values = struct.unpack("<65536e", struct.pack("<65536H", *range(65536)))
        elif kind == "BF16":
            values = struct.unpack("<65536f", struct.pack("<65536I", *range(0, 1 << 32, 1 << 16)))
        elif kind == "F8_E5M2":
            values = struct.unpack("<256e", struct.pack("<256H", *range(0, 65536, 256)))
        else:
            values = tuple(_e4m3(bits) for bits in range(256))
        _halves[kind] = values
    return _halves[kind]


def _e4m3(bits: int) -> float:
    exponent, fraction = bits >> 3 & 15, bits & 7
    if (exponent, fraction) == (15, 7):
        return math.nan
    size = math.ldexp(fraction, -9) if exponent == 0 else math.ldexp(8 + fraction, exponent - 10)
    return -size if bits & 128 else size


_WHOLE = {1: "b", 2: "h", 4: "i", 8: "q"}


def _decoder(kind: str, size: int, swap: bool) -> Callable[[bytes], Sequence[Any]] | None:
    """For NumPy's letter of a kind and the bytes of an element. Raises Unfit."""
    if kind == "f" and size in (4, 8):
        return _plain("f" if size == 4 else "d", swap)
    if kind == "f" and size == 2:
        return _by_table(_table("F16"), "H", swap)
    if kind == "c" and size in (8, 16):
        return _plain("f" if size == 8 else "d", swap)
    if kind in "iu" and size in _WHOLE:
        return _plain(_WHOLE[size] if kind == "i" else _WHOLE[size].upper(), swap)
    if kind in "bSUVMm":
        return None
    raise Unfit("has numbers of a type that is not compared")


_ITEM = (
    r"'(?:(descr)': '([<>|=][a-zA-Z][0-9]{1,9})'|(fortran_order)': (True|False)"
    r"|(shape)': \(((?:[0-9]{1,19}, ?)*(?:[0-9]{1,19})?)\))"
)
_HEADER = re.compile(r"\{(?:" + _ITEM + ", ?|" + _ITEM + r")+\}[ \n]*")
_FIELD = re.compile(_ITEM)


def read_npy(file: Source, length: int) -> tuple[tuple[Any, ...], int, Any, int]:
    """Form, size in bytes, decoder and offset of the data of a .npy file of `length` bytes. The
    file stands at its data then. Raises Unfit.
    """
    start = file.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise Unfit("is not a .npy file")
    wide = 2 if start[6] == 1 else 4
    size = int.from_bytes(file.read(wide), "little")
    if size > HEADER_BYTES:
        raise Unfit(f"has a header of more than {HEADER_BYTES} bytes")
    header = file.read(size)
    if len(header) != size:
        raise Unfit("ends within its header")
    text = header.decode("latin-1")
    if b"'|O" in header or b"'O'" in header:
        raise Unfit("holds Python objects, which are not read")
    if not _HEADER.fullmatch(text):
        raise Unfit("has a header of another kind")
    fields = _FIELD.findall(text)
    names = sorted(name for item in fields for name in (item[0], item[2], item[4]) if name)
    if names != ["descr", "fortran_order", "shape"]:
        raise Unfit("has a header of another kind")
    descr, order, shape = ("".join(item[place] for item in fields) for place in (1, 3, 5))
    sizes = tuple(int(part) for part in shape.split(",") if part.strip())
    if len(sizes) > DIMENSIONS:
        raise Unfit(f"has more than {DIMENSIONS} dimensions")
    kind, width = descr[1], int(descr[2:])
    swap = descr[0] == (">" if _LITTLE else "<")
    total = math.prod(sizes) * width * (4 if kind == "U" else 1)
    data = 8 + wide + size
    if data + total != length:
        raise Unfit("is not as long as its shape says")
    return (descr, order, sizes), total, _decoder(kind, width, swap), data


def _npy_arrays(file: IO[bytes]) -> dict[str, Array]:
    form, size, decode, _ = read_npy(file, _length(file))
    return {"": Array(form, size, decode, lambda: file)}


def _npz_arrays(file: IO[bytes]) -> dict[str, Array]:
    packed = zipfile.ZipFile(file)
    members = packed.infolist()
    names = {member.filename for member in members}
    if len(names) != len(members) or len(members) > MEMBERS:
        raise Unfit(f"has a name twice, or more than {MEMBERS} arrays")
    found = {}
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in (0, 8):
            raise Unfit("is packed in a way that is not read")
        with packed.open(member) as stream:
            form, size, decode, start = read_npy(stream, member.file_size)

        def reopen(member: zipfile.ZipInfo = member, start: int = start) -> Source:
            stream = packed.open(member)
            _exactly(stream, start)
            return stream

        found[member.filename] = Array(form, size, decode, reopen)
    return found


_TENSORS = {
    "F64": ("f", 8),
    "F32": ("f", 4),
    "F16": ("f", 2),
    "I64": ("i", 8),
    "I32": ("i", 4),
    "I16": ("i", 2),
    "I8": ("i", 1),
    "U64": ("u", 8),
    "U32": ("u", 4),
    "U16": ("u", 2),
    "U8": ("u", 1),
    "BOOL": ("b", 1),
}
_SMALL = {"BF16": 2, "F8_E5M2": 1, "F8_E4M3": 1}


def _tensor_arrays(file: IO[bytes]) -> dict[str, Array]:
    length = _length(file)
    start = file.read(8)
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > min(length - 8, TENSOR_HEADER_BYTES):
        raise Unfit("has a header longer than itself or than is read")
    header = read_json(_Part(file, size), TENSOR_HEADER_BYTES)
    if not isinstance(header, dict):
        raise Unfit("is not a .safetensors file")
    notes = header.pop("__metadata__", {})
    found, spans = {}, []
    for name, tensor in header.items():
        if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
            raise Unfit("is not a .safetensors file")
        shape, offsets = tensor["shape"], tensor["data_offsets"]
        for numbers in (shape, offsets):
            fit = isinstance(numbers, list) and len(numbers) <= DIMENSIONS
            if not fit or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
                raise Unfit("is not a .safetensors file")
        kind = tensor["dtype"]
        if not isinstance(kind, str) or kind not in (*_TENSORS, *_SMALL) or len(offsets) != 2:
            raise Unfit("has numbers of a type that is not compared")
        width = _SMALL[kind] if kind in _SMALL else _TENSORS[kind][1]
        total = math.prod(shape) * width
        if offsets[1] - offsets[0] != total:
            raise Unfit("has a tensor that is not as long as its shape says")
        spans.append((offsets[0], offsets[1]))
        decode = (
            _by_table(_table(kind), "HB"[2 - width], not _LITTLE)
            if kind in _SMALL
            else _decoder(*_TENSORS[kind], swap=not _LITTLE)
        )

        def reopen(at: int = 8 + size + offsets[0]) -> Source:
            file.seek(at)
            return file

        found[name] = Array((kind, tuple(shape)), total, decode, reopen)
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise Unfit("has tensors with a gap, or one over another")
        end = last
    if 8 + size + end != length:
        raise Unfit("is not as long as its tensors")
    # Compared like a tensor without bytes.
    found["__metadata__"] = Array((json.dumps(notes, sort_keys=True),), 0, None, lambda: file)
    return found


class _Part:
    """The next bytes of a file, as a file that ends after them."""

    def __init__(self, file: Source, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


def _length(file: IO[bytes]) -> int:
    length = file.seek(0, 2)
    file.seek(0)
    return length


def _exactly(stream: Source, size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise Unfit("ends before its data does")
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


_ARRAYS: dict[str, Callable[[IO[bytes]], dict[str, Array]]] = {
    "npy": _npy_arrays,
    "npz": _npz_arrays,
    "safetensors": _tensor_arrays,
}


def _compare_arrays(kind: str, ours: IO[bytes], theirs: IO[bytes], near: Tolerance) -> None:
    with _reading(ours=True):
        a = _ARRAYS[kind](ours)
    with _reading(ours=False):
        b = _ARRAYS[kind](theirs)
    if a.keys() != b.keys():
        raise _Ends(DIFFERENT, "the arrays have other names")
    for name, one in a.items():
        if one.form != b[name].form:
            raise _Ends(DIFFERENT, f"array {_shown(name)} has another type or shape")
    for name, one in a.items():
        _compare_array(name, one, b[name], near)


def _compare_array(name: str, a: Array, b: Array, near: Tolerance) -> None:
    with _reading(ours=True):
        ours = a.open()
    with _reading(ours=False):
        theirs = b.open()
    for at in range(0, a.size, CHUNK):
        size = min(CHUNK, a.size - at)
        with _reading(ours=True):
            one = _exactly(ours, size)
        with _reading(ours=False):
            other = _exactly(theirs, size)
        if one == other:
            continue
        if a.decode is None or b.decode is None:
            raise _Ends(DIFFERENT, f"array {_shown(name)} differs after byte {at}")
        numbers = a.decode(one)
        place = near.first_far(numbers, b.decode(other))
        if place is not None:
            element = at * len(numbers) // size + place
            raise _Ends(DIFFERENT, f"array {_shown(name)} differs at number {element}")
    for stream, is_ours in ((ours, True), (theirs, False)):
        if isinstance(stream, zipfile.ZipExtFile):
            with _reading(is_ours):  # the checksum is looked at when the end is met
                stream.read(1)


# ------------------------------------------------------------------------ the whole


def compare(kind: str, ours: Path, theirs: Path, near: Tolerance) -> tuple[str, str]:
    """The verdict on two files of a kind (`json`, `npy`, `npz`, `safetensors`), and its reason."""
    try:
        with ours.open("rb") as a, theirs.open("rb") as b:
            if kind == "json":
                _compare_json(a, b, near)
            else:
                _compare_arrays(kind, a, b, near)
    except _Ends as end:
        return end.verdict, end.reason
    return EQUAL, ""


def main(plan_file: str) -> None:
    """Compares all pairs of a plan. One difference decides, whatever could not be compared."""
    plan = json.loads(Path(plan_file).read_text("utf-8"))
    near = Tolerance(float(plan["rtol"]), float(plan["atol"]))
    said = {"verdict": EQUAL, "reason": "", "pair": -1}
    for number, pair in enumerate(plan["pairs"]):
        verdict, reason = compare(pair["kind"], Path(pair["ours"]), Path(pair["theirs"]), near)
        if verdict == DIFFERENT or (verdict == CANNOT and said["verdict"] == EQUAL):
            said = {"verdict": verdict, "reason": reason, "pair": number}
        if verdict == DIFFERENT:
            break
    Path("verdict.json").write_text(json.dumps(said), "utf-8")


def _shown(text: str) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


if __name__ == "__main__":
    main(sys.argv[1])
