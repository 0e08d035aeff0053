# SPDX-License-Identifier: Apache-2.0
"""ABI files by the name of a contract, for the commands that still read by name.

Encodings come from the ABI files beside this package, so a change of a contract shows up as an
error here and not as wrong bytes. Reads raise what `RpcPool.eth_call` raises. Amounts are in the
token's smallest unit, times unix seconds, addresses EIP-55.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Log

log = logging.getLogger(__name__)


class Function(NamedTuple):
    """A function of a contract: its 4-byte selector and the ABI types of what goes in and out."""

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class EventType(NamedTuple):
    """An event of a contract; `inputs` are (name, ABI type, indexed)."""

    name: str
    topic: bytes
    inputs: tuple[tuple[str, str, bool], ...]


class Abi:
    """An ABI file. Functions with defaults appear once for each number of arguments."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._functions: dict[tuple[str, int], Function] = {}
        self.events: dict[bytes, EventType] = {}
        for entry in entries:
            inputs = tuple(_type(argument) for argument in entry.get("inputs", ()))
            if entry["type"] == "function":
                outputs = tuple(_type(argument) for argument in entry.get("outputs", ()))
                selector = _hash(entry["name"], inputs)[:4]
                key = (entry["name"], len(inputs))
                self._functions[key] = Function(selector, inputs, outputs)
            elif entry["type"] == "event":
                topic = _hash(entry["name"], inputs)
                named = tuple(
                    (argument["name"], kind, bool(argument["indexed"]))
                    for argument, kind in zip(entry["inputs"], inputs, strict=True)
                )
                self.events[topic] = EventType(entry["name"], topic, named)

    @classmethod
    @cache
    def of(cls, contract: str) -> Abi:
        """The ABI of one of our contracts, by its name."""
        file = resources.files("provider_agent") / "abi" / f"{contract}.json"
        return cls(json.loads(file.read_text()))

    def function(self, name: str, arguments: int) -> Function:
        """A function by its name and number of arguments; KeyError when there is none."""
        return self._functions[name, arguments]

    def encode(self, name: str, *arguments: object) -> bytes:
        """Calldata of a call."""
        function = self.function(name, len(arguments))
        return function.selector + encode(function.inputs, arguments)

    def decode_output(self, name: str, arguments: int, data: bytes) -> tuple[Any, ...]:
        """What a call returned. ChainError when the bytes do not fit: not our contract."""
        try:
            values = decode(self.function(name, arguments).outputs, data)
        except (DecodingError, OverflowError, UnicodeDecodeError):
            raise ChainError(
                f"the contract answered {name} with something else; check the contract addresses"
            ) from None
        outputs = self.function(name, arguments).outputs
        return tuple(_plain(kind, value) for kind, value in zip(outputs, values, strict=True))

    def decode_log(self, entry: Log) -> tuple[str, dict[str, Any]] | None:
        """Name and arguments of a log, or None when it is none of ours or cannot be read."""
        event = self.events.get(entry.topics[0]) if entry.topics else None
        if event is None:
            return None
        indexed = [(name, kind) for name, kind, is_indexed in event.inputs if is_indexed]
        plain = [(name, kind) for name, kind, is_indexed in event.inputs if not is_indexed]
        if len(indexed) != len(entry.topics) - 1:
            return None
        arguments: dict[str, Any] = {}
        try:
            for (name, kind), topic in zip(indexed, entry.topics[1:], strict=True):
                arguments[name] = _plain(kind, decode([kind], topic)[0])
            values = decode([kind for _, kind in plain], entry.data)
        except (DecodingError, OverflowError, UnicodeDecodeError) as error:
            log.warning("skipping a %s event that cannot be read: %s", event.name, error)
            return None
        for (name, kind), value in zip(plain, values, strict=True):
            arguments[name] = _plain(kind, value)
        return event.name, arguments

    def topics(self, names: Iterable[str]) -> list[bytes]:
        """The first topics of the events with these names."""
        wanted = set(names)
        return [topic for topic, event in self.events.items() if event.name in wanted]


def _type(argument: Mapping[str, Any]) -> str:
    """The canonical type of an ABI argument, structs written out."""
    kind = str(argument["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in argument['components'])}){kind[5:]}"


def _hash(name: str, inputs: Iterable[str]) -> bytes:
    return bytes(keccak(text=f"{name}({','.join(inputs)})"))


def _plain(kind: str, value: Any) -> Any:
    """Addresses with their checksum, as everywhere in the agent."""
    return str(to_checksum_address(value)) if kind == "address" else value
