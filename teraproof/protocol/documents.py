# SPDX-License-Identifier: Apache-2.0
"""JSON documents with one spelling: read by a strict schema, named by the sha256 of RFC 8785 bytes.

A `Form` is a kind of document. It says in one line what is wrong with one, and where.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NoReturn

import rfc8785
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from teraproof import nesting
from teraproof.errors import SpecError

_MAX_ERRORS = 16  # found before the first one is reported; a bad document could have 100,000
# Beyond it a JSON number is no longer the same integer in every reader.
_MAX_INTEGER = 2**53 - 1

_extend: Callable[..., Any] = extend  # comes without types
# Twice the same is refused by the forms, in time that grows with the list and not with its square.
_Validator = _extend(Draft202012Validator, {"uniqueItems": lambda *_: iter(())})


class Form:
    """A kind of document: its name for people, its schema, and how long it may be.

    `instead` says what to do with one that is longer. `fraction` says what to write at a path
    where a fraction belongs; `text_fault` what is wrong with a text, if the schema's own words say
    less. Both may say nothing.
    """

    def __init__(
        self,
        what: str,
        schema: Mapping[str, Any],
        max_bytes: int,
        *,
        instead: str,
        fraction: Callable[[str], str] = lambda path: "",
        text_fault: Callable[[str, str, Mapping[str, Any]], str | None] = lambda *_: None,
    ) -> None:
        self.what, self.max_bytes = what, max_bytes
        self.validator = _Validator(schema)
        self._instead, self._fraction, self._text_fault = instead, fraction, text_fault

    def canonical(self, document: Any) -> bytes:
        """RFC 8785 bytes of a JSON value. SpecError when it has none (floats included)."""
        self._refuse_ambiguous(document, "")
        try:
            return bytes(rfc8785.dumps(document))
        except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
            raise SpecError(f"{self.what}: no canonical form ({error})") from None

    def digest(self, document: Any) -> bytes:
        """The sha256 of the canonical bytes of a JSON value."""
        return hashlib.sha256(self.canonical(document)).digest()

    def load(self, data: bytes) -> Any:
        """The JSON value in `data`. SpecError when it is not one, or not in one spelling."""
        if len(data) > self.max_bytes:
            raise SpecError(f"{self.what}: larger than {self.max_bytes} bytes; {self._instead}")

        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for key, value in pairs:
                if key in found:
                    raise SpecError(f"{self.what}: key {show(key)} stands twice; remove one")
                found[key] = value
            return found

        def no_float(literal: str) -> NoReturn:
            raise SpecError(f"{self.what}: {literal[:40]} is not an integer; floats are refused")

        try:
            return nesting.loads(
                data.decode("utf-8"),
                object_pairs_hook=unique,
                parse_float=no_float,
                parse_constant=no_float,
            )
        except UnicodeDecodeError:
            raise SpecError(f"{self.what}: not UTF-8") from None
        except json.JSONDecodeError as error:
            raise SpecError(
                f"{self.what}: not JSON, line {error.lineno} column {error.colno}: {error.msg}"
            ) from None
        except (ValueError, RecursionError):
            # An integer of thousands of digits, or brackets thousands deep.
            raise SpecError(f"{self.what}: a number or a nesting is far too large") from None

    def check(self, document: Any) -> None:
        """Raise SpecError for the first fault that the schema finds."""
        self._refuse_ambiguous(document, "")
        errors = islice(self.validator.iter_errors(document), _MAX_ERRORS)
        first = min(errors, key=_document_order, default=None)
        if first is not None:
            raise SpecError(self._sentences(first)[0])

    def faults(self, document: Any) -> list[str]:
        """What the schema finds wrong with a document, a line each, in its order."""
        try:
            self._refuse_ambiguous(document, "")
        except SpecError as error:
            return [str(error)]
        errors = islice(self.validator.iter_errors(document), _MAX_ERRORS)
        found: list[str] = []
        for fault in sorted(errors, key=_document_order):
            found += [line for line in self._sentences(fault) if line not in found]
        return found

    def check_name(self, data: bytes, name: bytes) -> None:
        """Raise SpecError unless `data` hashes to the 32 bytes `name`."""
        if hashlib.sha256(data).digest() != name:
            raise SpecError(f"{self.what}: sha256 differs from its name; send the same bytes")

    def check_canonical(self, data: bytes, document: Any) -> None:
        """Raise SpecError unless `data` is the canonical form of `document`."""
        if self.canonical(document) != data:
            raise SpecError(f"{self.what}: not in RFC 8785 form; canonicalise it, then name it")

    def named(self, path: str) -> str:
        """A path for a line: the document itself has none."""
        return path or self.what

    def _refuse_ambiguous(self, value: Any, path: str) -> None:
        """Refuse numbers that two readers could understand differently."""
        try:
            if isinstance(value, float):
                raise SpecError(
                    f"{self.named(path)}: {value!r} is not an integer; floats are refused"
                    f"{self._fraction(path)}"
                )
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _MAX_INTEGER:
                raise SpecError(
                    f"{self.named(path)}: the integer is beyond 2^53 - 1; use a smaller one"
                )
            if isinstance(value, dict):
                for key, item in value.items():
                    self._refuse_ambiguous(item, _join(path, key))
            elif isinstance(value, list | tuple):
                for number, item in enumerate(value):
                    self._refuse_ambiguous(item, f"{path}[{number}]")
        except RecursionError:
            raise SpecError(f"{self.what}: nested far too deep") from None

    def _sentences(self, error: ValidationError) -> list[str]:
        path = ""
        for part in error.absolute_path:
            path = f"{path}[{part}]" if isinstance(part, int) else _join(path, str(part))
        schema: Any = error.schema
        given: Any = error.instance
        if error.validator == "required":
            missing = [name for name in schema["required"] if name not in given]
            return [f"{_join(path, name)}: missing; every field is required" for name in missing]
        if error.validator == "additionalProperties" and schema["additionalProperties"] is False:
            unknown = sorted(set(given) - set(schema["properties"]))
            return [f"{_join(path, name)}: unknown field; remove it" for name in unknown]
        if isinstance(given, str):
            special = self._text_fault(path, given, schema)
            if special is not None:
                return [special]
        expected = schema.get("description", error.message) if path else "a JSON object"
        return [f"{self.named(path)}: {show(given)} is not allowed; give {expected}"]


def _document_order(error: ValidationError) -> tuple[str, ...]:
    # The same document always gives the same line; outer errors come first.
    return tuple(str(part).zfill(6) for part in error.absolute_path)


def _join(path: str, key: str) -> str:
    shown = key if key.isascii() and key.isprintable() and len(key) <= 64 else show(key)
    return f"{path}.{shown}" if path else shown


def show(value: Any) -> str:
    """A stranger's value in a line: plain ASCII, and short."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
