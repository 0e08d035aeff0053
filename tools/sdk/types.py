# SPDX-License-Identifier: Apache-2.0
"""Vyper types in Python: how they are written, given to the encoder, and read back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vyper.semantics.types import function as functions
from vyper.semantics.types.base import VyperType
from vyper.semantics.types.bytestrings import BytesT, StringT
from vyper.semantics.types.module import InterfaceT
from vyper.semantics.types.primitives import AddressT, BoolT, BytesM_T, IntegerT
from vyper.semantics.types.subscriptable import DArrayT, SArrayT, TupleT
from vyper.semantics.types.user import FlagT, StructT

from tools.sdk.names import DOMAIN, STRUCTS
from tools.sdk.words import Words, comment_of, comments_in, docstring


class SdkError(Exception):
    """One line for a person: what of which contract cannot be written."""


@dataclass
class File:
    """One generated module while it is written."""

    contract: str
    imports: set[tuple[str, str]] = field(default_factory=set)
    long_types: dict[str, str] = field(default_factory=dict)
    """ABI type of a struct -> the constant that holds it."""
    tuples: dict[str, list[str]] = field(default_factory=dict)
    """Name of a NamedTuple -> its lines."""
    constants: list[str] = field(default_factory=list)

    def use(self, module: str, name: str) -> str:
        """Import a name, and give it back."""
        self.imports.add((module, name))
        return name


def snake(name: str) -> str:
    """A name in the way of Python: `totalSupply` and `BOND` become `total_supply` and `bond`."""
    if name.isupper() or "_" in name:
        return name.lower()
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def abi_type(kind: VyperType) -> str:
    """The canonical ABI type."""
    return str(kind.abi_type.selector_name())


def returned(function: functions.ContractFunctionT) -> list[VyperType]:
    """The types of what a function returns."""
    kind = function.return_type
    if kind is None:
        return []
    return list(kind.member_types) if isinstance(kind, TupleT) else [kind]


class Types:
    """Vyper's types in Python: how they are written, given to the encoder, and read back."""

    def __init__(self, file: File, words: Words) -> None:
        self._file, self._words = file, words

    def written(self, kind: VyperType, *, given: bool) -> str:
        """As an annotation; `given` for what a caller gives."""
        if isinstance(kind, IntegerT | FlagT):
            return "int"
        if isinstance(kind, BoolT):
            return "bool"
        if isinstance(kind, AddressT | InterfaceT | StringT):
            return "str"
        if isinstance(kind, BytesM_T | BytesT):
            return "bytes"
        if isinstance(kind, DArrayT | SArrayT):
            inner = self.written(kind.value_type, given=given)
            if given:
                return f"{self._file.use('collections.abc', 'Sequence')}[{inner}]"
            return f"tuple[{inner}, ...]"
        if isinstance(kind, StructT):
            return self._struct(kind)
        raise SdkError(f"{self._file.contract}: a type that is not known here: {kind}")

    def encoded(self, kind: VyperType, expression: str) -> str:
        """What the encoder is given for an argument."""
        if isinstance(kind, StructT) and kind.name in DOMAIN:
            return f"{expression}.abi_tuple()"
        if isinstance(kind, DArrayT | SArrayT):
            inner = self.encoded(kind.value_type, "one")
            return expression if inner == "one" else f"[{inner} for one in {expression}]"
        return expression

    def decoded(self, kind: VyperType, expression: str) -> str:
        """A value of the decoder in its type."""
        if isinstance(kind, AddressT | InterfaceT):
            return f"{self._file.use('teraproof.contracts.abi', 'checksummed')}({expression})"
        if isinstance(kind, DArrayT | SArrayT):
            inner = self.decoded(kind.value_type, "value")
            return f"tuple({inner} for value in {expression})"
        if isinstance(kind, StructT):
            name = self._struct(kind)
            if kind.name in DOMAIN:
                return f"{name}.from_abi({expression})"
            self._no_addresses(kind.members.values(), name)
            return f"{name}(*{expression})"
        return f"{self.written(kind, given=False)}({expression})"

    def constant(self, kind: VyperType) -> str:
        """An ABI type as an expression; those of structs are long, and constants."""
        text = abi_type(kind)
        if not text.startswith("("):
            return f'"{text}"'
        inner = kind.value_type if isinstance(kind, DArrayT | SArrayT) else kind
        if text not in self._file.long_types:
            suffix = "" if inner is kind else "S"
            self._file.long_types[text] = f"{inner.name.upper()}{suffix}_TYPE"
        return self._file.long_types[text]

    def tuple_of(self, name: str, members: Sequence[tuple[str, str, str]], words: str) -> str:
        """A NamedTuple of (name, annotation, comment)."""
        self._file.use("typing", "NamedTuple")
        lines = [f"class {name}(NamedTuple):", *docstring(words, "    "), ""]
        for member, annotation, comment in members:
            lines.append(f"    {member}: {annotation}")
            if comment:
                lines += docstring(comment, "    ")
        self._file.tuples[name] = lines
        return name

    def _struct(self, kind: StructT) -> str:
        if kind.name in DOMAIN:
            return self._file.use(DOMAIN[kind.name], kind.name)
        name = str(STRUCTS.get(kind.name, kind.name))
        if name not in self._file.tuples:
            node = self._words.structs[kind.name]
            comments = comments_in(node)
            self.tuple_of(
                name,
                [
                    (member, self.written(inner, given=False), comments.get(member, ""))
                    for member, inner in kind.members.items()
                ],
                comment_of(node) or f"`{kind.name}` of {self._file.contract}.",
            )
        return name

    def _no_addresses(self, kinds: Iterable[VyperType], name: str) -> None:
        if any(isinstance(kind, AddressT | InterfaceT | StructT) for kind in kinds):
            raise SdkError(f"{name} holds an address or a struct: give it a type in DOMAIN")
