# SPDX-License-Identifier: Apache-2.0
"""How functions and events of a contract are written as bytes, and read from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Log


class Unreadable(Exception):
    """A log that does not fit the event whose topic it carries."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a contract: its selector, and the ABI types of what goes in and out."""

    name: str
    selector: bytes
    """4 bytes."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def encode(self, *arguments: object) -> bytes:
        """Calldata."""
        return self.selector + encode(self.inputs, arguments)

    def decode_input(self, data: bytes) -> tuple[Any, ...]:
        """The arguments in calldata of this function, as the ABI decoder gives them."""
        return tuple(decode(self.inputs, data[4:]))

    def decode_output(self, data: bytes) -> tuple[Any, ...]:
        """What a call returned. ChainError when the bytes do not fit: not our contract."""
        try:
            return tuple(decode(self.outputs, data))
        except (DecodingError, OverflowError, UnicodeDecodeError):
            raise ChainError(
                f"the contract answered {self.name} with something else; check the contract "
                "addresses"
            ) from None


class Member(NamedTuple):
    """One argument of an event."""

    name: str
    kind: str
    """ABI type."""
    indexed: bool


@dataclass(frozen=True, slots=True)
class EventType:
    """An event of a contract."""

    name: str
    topic: bytes
    """32 bytes, the first topic of its logs."""
    members: tuple[Member, ...]

    def decode(self, entry: Log) -> tuple[Any, ...]:
        """The arguments, in the order in which they are declared. Raises Unreadable."""
        indexed = [member for member in self.members if member.indexed]
        plain = [member for member in self.members if not member.indexed]
        if len(indexed) != len(entry.topics) - 1:
            raise Unreadable(f"{self.name}: {len(entry.topics)} topics")
        found: dict[str, Any] = {}
        try:
            for member, topic in zip(indexed, entry.topics[1:], strict=True):
                found[member.name] = decode([member.kind], topic)[0]
            values = decode([member.kind for member in plain], entry.data)
        except (DecodingError, OverflowError, UnicodeDecodeError) as error:
            raise Unreadable(f"{self.name}: {error}") from None
        found |= {member.name: value for member, value in zip(plain, values, strict=True)}
        return tuple(found[member.name] for member in self.members)

    def filter(self, **indexed: object) -> list[list[str] | None]:
        """Topics that ask for logs with these indexed arguments; a list asks for any of its values.
        KeyError for any other name.
        """
        wanted: list[list[str] | None] = []
        for member in self.members:
            if member.indexed:
                value = indexed.pop(member.name, None)
                values = value if isinstance(value, list) else [value]
                wanted.append(
                    None
                    if value is None
                    else ["0x" + encode([member.kind], [each]).hex() for each in values]
                )
        if indexed:
            raise KeyError(f"{self.name} is not indexed by {', '.join(indexed)}")
        while wanted and wanted[-1] is None:
            wanted.pop()
        return wanted


class Abi:
    """An ABI as the compiler writes it, for contracts that have no class here.

    Functions with defaults appear once for each number of arguments.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._functions: dict[tuple[str, int], Function] = {}
        for entry in entries:
            if entry["type"] == "function":
                inputs = types_of(entry.get("inputs", ()))
                selector = bytes(keccak(text=f"{entry['name']}({','.join(inputs)})"))[:4]
                outputs = types_of(entry.get("outputs", ()))
                function = Function(entry["name"], selector, inputs, outputs)
                self._functions[function.name, len(inputs)] = function

    def function(self, name: str, arguments: int) -> Function:
        """A function by its name and number of arguments; KeyError when there is none."""
        return self._functions[name, arguments]

    def encode(self, name: str, *arguments: object) -> bytes:
        """Calldata of a call."""
        return self.function(name, len(arguments)).encode(*arguments)

    def decode_output(self, name: str, arguments: int, data: bytes) -> tuple[Any, ...]:
        """What a call returned; see Function."""
        function = self.function(name, arguments)
        values = zip(function.outputs, function.decode_output(data), strict=True)
        return tuple(checksummed(value) if kind == "address" else value for kind, value in values)


def types_of(arguments: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The canonical types of ABI arguments, structs written out."""
    return tuple(_type_of(argument) for argument in arguments)


@lru_cache(maxsize=4096)  # a hash in Python, and the same addresses again and again
def checksummed(value: str) -> str:
    """An address with its checksum, as everywhere in the programs."""
    return str(to_checksum_address(value))


def _type_of(argument: Mapping[str, Any]) -> str:
    kind = str(argument["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(types_of(argument['components']))}){kind[5:]}"
