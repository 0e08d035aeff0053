# SPDX-License-Identifier: Apache-2.0
"""ABI packing made once a function: a closure a type, words cut out of bytes.

`eth_abi` walks the type strings at every call, which costs more than the call itself on a fast
virtual machine. `test_revm.py` compares the two on random values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

Pack = Callable[[Any], bytes]
# (data, where the value's head stands, where its tuple starts) -> value
Cut = Callable[[bytes, int, int], Any]

SIZES = re.compile(r"(.*)\[(\d*)\]$")
WORD = 32


@dataclass(frozen=True)
class Kind:
    """One ABI type: how it is packed and cut, and the size of its head in bytes."""

    pack: Pack
    cut: Cut
    head: int
    dynamic: bool


@cache
def address_word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


@cache
def address_of_word(word: bytes) -> str:
    return str(to_checksum_address(word[12:]))


def word(value: int) -> bytes:
    return value.to_bytes(WORD, "big")


def number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + WORD], "big")


def _padded(value: bytes) -> bytes:
    return len(value).to_bytes(WORD, "big") + value + bytes(-len(value) % WORD)


def _cut_bytes(data: bytes, at: int, start: int) -> bytes:
    at = start + number(data, at)
    return data[at + WORD : at + WORD + number(data, at)]


def _signed(data: bytes, at: int, start: int) -> int:
    return int.from_bytes(data[at : at + WORD], "big", signed=True)


def split_members(inner: str) -> list[str]:
    """The member types of a tuple."""
    found, depth, last = [], 0, 0
    for at, letter in enumerate(inner):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            found.append(inner[last:at])
            last = at + 1
    return [*found, inner[last:]] if inner else []


@cache
def kind(name: str) -> Kind:
    """The packer of a type by its name, `uint256` or `(address,bytes32[])[3]`."""
    if array := SIZES.match(name):
        inner, size = array.groups()
        return _fixed(kind(inner), int(size)) if size else _list(kind(inner))
    if name.startswith("("):
        return members(tuple(split_members(name[1:-1])))
    if name.startswith("uint"):
        return Kind(lambda v: v.to_bytes(WORD, "big"), lambda d, at, _: number(d, at), WORD, False)
    if name.startswith("int"):
        return Kind(lambda v: v.to_bytes(WORD, "big", signed=True), _signed, WORD, False)
    if name == "address":
        return Kind(address_word, lambda d, at, _: address_of_word(d[at : at + WORD]), WORD, False)
    if name == "bool":
        return Kind(
            lambda v: (1 if v else 0).to_bytes(WORD, "big"),
            lambda d, at, _: d[at + WORD - 1] == 1,
            WORD,
            False,
        )
    if name == "string":
        return Kind(lambda v: _padded(v.encode()), lambda *a: _cut_bytes(*a).decode(), WORD, True)
    if name == "bytes":
        return Kind(_padded, _cut_bytes, WORD, True)
    size = int(name.removeprefix("bytes"))
    return Kind(lambda v: v.ljust(WORD, b"\0"), lambda d, at, _: d[at : at + size], WORD, False)


@cache
def members(names: tuple[str, ...]) -> Kind:
    """A tuple, or the arguments of a function."""
    kinds = tuple(map(kind, names))
    packs = tuple(k.pack for k in kinds)
    head = sum(k.head for k in kinds)
    dynamic = any(k.dynamic for k in kinds)
    places, at = [], 0
    for k in kinds:
        places.append((k.cut, at))
        at += k.head

    def pack_static(values: Sequence[Any]) -> bytes:
        return b"".join([pack(value) for pack, value in zip(packs, values, strict=True)])

    def pack(values: Sequence[Any]) -> bytes:
        heads, tails, end = [], [], head
        for k, value in zip(kinds, values, strict=True):
            packed = k.pack(value)
            if k.dynamic:
                heads.append(end.to_bytes(WORD, "big"))
                tails.append(packed)
                end += len(packed)
            else:
                heads.append(packed)
        return b"".join(heads + tails)

    def cut(data: bytes, at: int, start: int) -> tuple[Any, ...]:
        if dynamic:
            at = start = start + number(data, at)
        return tuple([cut(data, at + place, start) for cut, place in places])

    return Kind(pack if dynamic else pack_static, cut, WORD if dynamic else head, dynamic)


def _list(inner: Kind) -> Kind:
    def pack(values: Sequence[Any]) -> bytes:
        packed = [inner.pack(value) for value in values]
        if not inner.dynamic:
            return word(len(packed)) + b"".join(packed)
        heads, end = [], WORD * len(packed)
        for part in packed:
            heads.append(end.to_bytes(WORD, "big"))
            end += len(part)
        return b"".join([word(len(packed)), *heads, *packed])

    def cut(data: bytes, at: int, start: int) -> list[Any]:
        at = start + number(data, at)
        first, step = at + WORD, inner.head
        return [inner.cut(data, first + n * step, first) for n in range(number(data, at))]

    return Kind(pack, cut, WORD, True)


def _fixed(inner: Kind, size: int) -> Kind:
    assert not inner.dynamic, "no contract here has such a type"
    return Kind(
        lambda values: b"".join(map(inner.pack, values)),
        lambda d, at, start: [inner.cut(d, at + n * inner.head, start) for n in range(size)],
        inner.head * size,
        False,
    )


def abi_type(entry: dict[str, Any]) -> str:
    """The type string of an ABI entry, structs written out as tuples."""
    name: str = entry["type"]
    if name.startswith("tuple"):
        return f"({','.join(map(abi_type, entry['components']))}){name.removeprefix('tuple')}"
    return name


class Function:
    """How to call one function and read its answer."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.name: str = entry.get("name", "")
        self.inputs = tuple(map(abi_type, entry["inputs"]))
        self.outputs = tuple(map(abi_type, entry.get("outputs", ())))
        self.selector = keccak(text=f"{self.name}({','.join(self.inputs)})")[:4]
        self._pack = members(self.inputs).pack
        outputs = [kind(name) for name in self.outputs]
        self._places: list[tuple[Cut, int]] = []
        at = 0
        for found in outputs:
            self._places.append((found.cut, at))
            at += found.head

    def data(self, args: Sequence[Any]) -> bytes:
        return self.selector + self._pack(args)

    def arguments(self, args: Sequence[Any]) -> bytes:
        """Without a selector, as a constructor takes them."""
        return self._pack(args)

    def value(self, output: bytes) -> Any:
        """One value as it is, several as a tuple, none as None."""
        places = self._places
        if len(places) == 1:
            return places[0][0](output, places[0][1], 0)
        return tuple([cut(output, at, 0) for cut, at in places]) or None


class Event:
    """How to read one event: (name, {argument: value})."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.name: str = entry["name"]
        types = [abi_type(part) for part in entry["inputs"]]
        self.topic = keccak(text=f"{self.name}({','.join(types)})")
        parts = list(zip(entry["inputs"], types, strict=True))
        self._indexed = [(p["name"], kind(t)) for p, t in parts if p["indexed"]]
        self._names = [p["name"] for p, t in parts if not p["indexed"]]
        self._data = members(tuple(t for p, t in parts if not p["indexed"]))

    def read(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        found = {
            name: what.cut(topic, 0, 0)
            for (name, what), topic in zip(self._indexed, topics[1:], strict=True)
        }
        # The data of an event is a tuple without the word that says where it starts.
        framed = word(WORD) + data if self._data.dynamic else data
        return found | dict(zip(self._names, self._data.cut(framed, 0, 0), strict=True))
