# SPDX-License-Identifier: Apache-2.0
"""Job specifications: JSON by a strict schema, named by the sha256 of their RFC 8785 form.

`parse` reads a file that a person wrote; `parse_named` reads what came over the wire under a
digest, where only the canonical bytes will do.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from types import MappingProxyType
from typing import Any, NoReturn

import rfc8785
from eth_utils.address import to_checksum_address
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from teraproof.errors import LocalError, SpecError
from teraproof.protocol.comparison import Comparison
from teraproof.protocol.digests import Entry
from teraproof.protocol.paths import check_path, check_tree

MAX_BYTES = 256 << 10
#: Processes and threads of a deterministic job, and MiB of what it prints that are kept (four times
#: as much end it). Another machine must end such a job in the same way: no provider chooses these.
PROCESSES, PRINTED_MB = 256, 16
_MAX_ERRORS = 16  # found before the first one is reported; a bad document could have 100,000
# Beyond it a JSON number is no longer the same integer in every reader.
_MAX_INTEGER = 2**53 - 1

_SCHEMA: dict[str, Any] = json.loads(
    resources.files(__package__).joinpath("job_spec.schema.json").read_text("utf-8")
)
#: The schema of a path of inputs, outputs and results.
PATH_SCHEMA: Mapping[str, Any] = _SCHEMA["$defs"]["path"]
# Twice the same is refused below, in time that grows with the list and not with its square.
_extend: Callable[..., Any] = extend  # comes without types
_VALIDATOR = _extend(Draft202012Validator, {"uniqueItems": lambda *_: iter(())})(_SCHEMA)
# What stands in no text. Arguments may be small programs; everything else is one line.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_IN_ARGUMENT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Resources:
    """What a job may use at most."""

    cpus: int
    memory_mb: int
    """MiB of memory, all processes together."""
    disk_mb: int
    """MiB of disk, inputs not counted."""
    gpus: int


@dataclass(frozen=True)
class JobSpec:
    """A valid job specification, version 1. Make one with `parse`, not by hand."""

    kind: str
    name: str
    runtime: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    inputs: tuple[Entry, ...]
    """In the order of the document; paths are clean and do not clash."""
    outputs: tuple[str, ...]
    """Files or directories below the working directory."""
    resources: Resources
    timeout_seconds: int
    deterministic: bool
    network: bool
    allow: tuple[str, ...] = ()
    """Owner addresses of the only providers that may take the job by an open order."""
    compare: Comparison | None = None
    """How results of two runs are compared; None: as by the rule `exact`."""

    def to_json(self) -> dict[str, Any]:
        """The document, as plain JSON values."""
        document = {
            "version": 1,
            "kind": self.kind,
            "name": self.name,
            "runtime": self.runtime,
            "command": list(self.command),
            "env": dict(self.env),
            "inputs": [{"path": e.path, "sha256": e.sha256, "size": e.size} for e in self.inputs],
            "outputs": list(self.outputs),
            "resources": {
                "cpus": self.resources.cpus,
                "memory_mb": self.resources.memory_mb,
                "disk_mb": self.resources.disk_mb,
                "gpus": self.resources.gpus,
            },
            "timeout_seconds": self.timeout_seconds,
            "deterministic": self.deterministic,
            "network": self.network,
        }
        if self.allow:
            document["allow"] = list(self.allow)
        if self.compare is not None:
            document["compare"] = self.compare.to_json()
        return document

    def canonical(self) -> bytes:
        """The bytes whose sha256 names this specification."""
        return canonical(self.to_json())

    def digest(self) -> bytes:
        """The 32 bytes that name this specification on chain."""
        return hashlib.sha256(self.canonical()).digest()

    def input_bytes(self) -> int:
        """The size of all inputs together, in bytes."""
        return sum(entry.size for entry in self.inputs)


def canonical(document: Any) -> bytes:
    """RFC 8785 bytes of a JSON value. SpecError when it has none (floats included: see `parse`)."""
    _refuse_ambiguous(document, "")
    try:
        return bytes(rfc8785.dumps(document))
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise SpecError(f"job specification: no canonical form ({error})") from None


def digest(document: Any) -> bytes:
    """The sha256 of the canonical bytes of a JSON value."""
    return hashlib.sha256(canonical(document)).digest()


def parse(data: bytes) -> JobSpec:
    """Read a specification, however it is laid out. SpecError is one line that names the field."""
    return _build(_load(data))


def parse_named(data: bytes, name: bytes) -> JobSpec:
    """Read a specification that is known by its digest `name` (32 bytes).

    SpecError unless `data` is exactly the canonical form and hashes to `name`.
    """
    if hashlib.sha256(data).digest() != name:
        raise SpecError("job specification: sha256 differs from its name; send the same bytes")
    spec = parse(data)
    if spec.canonical() != data:
        raise SpecError("job specification: not in RFC 8785 form; canonicalise it, then name it")
    return spec


def faults(document: Any) -> list[str]:
    """Everything that is wrong with a document, a line each, in its order; none for a valid one.

    The first of them is what `parse` would say.
    """
    try:
        _refuse_ambiguous(document, "")
    except SpecError as error:
        return [str(error)]
    errors = sorted(islice(_VALIDATOR.iter_errors(document), _MAX_ERRORS), key=_document_order)
    found: list[str] = []
    for fault in errors:
        found += [line for line in _sentences(fault) if line not in found]
    if found:
        return found
    try:
        _build(document)
    except SpecError as error:
        return [str(error)]
    return []


def _load(data: bytes) -> Any:
    if len(data) > MAX_BYTES:
        raise SpecError(f"job specification: larger than {MAX_BYTES} bytes; move data to inputs")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise SpecError(f"job specification: key {_show(key)} stands twice; remove one")
            found[key] = value
        return found

    def no_float(literal: str) -> NoReturn:
        raise SpecError(f"job specification: {literal[:40]} is not an integer; floats are refused")

    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_float=no_float,
            parse_constant=no_float,
        )
    except UnicodeDecodeError:
        raise SpecError("job specification: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise SpecError(
            f"job specification: not JSON, line {error.lineno} column {error.colno}: {error.msg}"
        ) from None
    except (ValueError, RecursionError):
        # An integer of thousands of digits, or brackets thousands deep.
        raise SpecError("job specification: a number or a nesting is far too large") from None


def _build(document: Any) -> JobSpec:
    _refuse_ambiguous(document, "")
    errors = islice(_VALIDATOR.iter_errors(document), _MAX_ERRORS)
    first = min(errors, key=_document_order, default=None)
    if first is not None:
        raise SpecError(_sentence(first))
    inputs = tuple(
        Entry(_path(f"inputs[{n}].path", item["path"]), item["size"], item["sha256"])
        for n, item in enumerate(document["inputs"])
    )
    outputs = tuple(_path(f"outputs[{n}]", item) for n, item in enumerate(document["outputs"]))
    # A second program run from the inputs would see its own outputs: keep the two apart.
    for where, paths in (
        ("inputs", [entry.path for entry in inputs]),
        ("outputs", list(outputs)),
        ("inputs and outputs", [*(entry.path for entry in inputs), *outputs]),
    ):
        try:
            check_tree(paths)
        except LocalError as error:
            raise SpecError(f"{where}: {error}") from None
    allow = tuple(document.get("allow", ()))
    if list(allow) != sorted({to_checksum_address(owner) for owner in allow}, key=str.lower):
        raise SpecError("allow: give each address once, in order, with its checksum")
    return JobSpec(
        kind=document["kind"],
        name=document["name"],
        runtime=document["runtime"],
        command=tuple(document["command"]),
        env=MappingProxyType(dict(document["env"])),
        inputs=inputs,
        outputs=outputs,
        resources=Resources(**document["resources"]),
        timeout_seconds=document["timeout_seconds"],
        deterministic=document["deterministic"],
        network=document["network"],
        allow=allow,
        compare=Comparison.from_json(document["compare"]) if "compare" in document else None,
    )


def _as_text(path: str) -> str:
    """What to write in a place where a fraction belongs."""
    if path.partition(".")[0] != "compare":
        return ""
    return '; write it as text, such as "1e-5"'


def _refuse_ambiguous(value: Any, path: str) -> None:
    """Refuse numbers that two readers could understand differently."""
    try:
        if isinstance(value, float):
            raise SpecError(
                f"{_named(path)}: {value!r} is not an integer; floats are refused{_as_text(path)}"
            )
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _MAX_INTEGER:
            raise SpecError(f"{_named(path)}: the integer is beyond 2^53 - 1; use a smaller one")
        if isinstance(value, dict):
            for key, item in value.items():
                _refuse_ambiguous(item, _join(path, key))
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                _refuse_ambiguous(item, f"{path}[{number}]")
    except RecursionError:
        raise SpecError("job specification: nested far too deep") from None


def _text_fault(path: str, text: str, is_path: bool) -> str | None:
    """What is wrong with a text, if more can be said than what is expected."""
    pattern = _CONTROL_IN_ARGUMENT if path.startswith("command[") else _CONTROL
    found = pattern.search(text)
    if found is not None:
        return f"{_named(path)}: control character {found[0]!a}; remove it"
    if is_path:
        try:
            check_path(text)
        except LocalError as error:
            return f"{path}: {error}"
    return None


def _path(where: str, value: str) -> str:
    try:
        return check_path(value)
    except LocalError as error:
        raise SpecError(f"{where}: {error}") from None


def _document_order(error: ValidationError) -> tuple[str, ...]:
    # The same document always gives the same line; outer errors come first.
    return tuple(str(part).zfill(6) for part in error.absolute_path)


def _sentence(error: ValidationError) -> str:
    return _sentences(error)[0]


def _sentences(error: ValidationError) -> list[str]:
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
        special = _text_fault(path, given, schema.get("title") == "path")
        if special is not None:
            return [special]
    expected = schema.get("description", error.message) if path else "a JSON object"
    return [f"{_named(path)}: {_show(given)} is not allowed; give {expected}"]


def _join(path: str, key: str) -> str:
    shown = key if key.isascii() and key.isprintable() and len(key) <= 64 else _show(key)
    return f"{path}.{shown}" if path else shown


def _named(path: str) -> str:
    return path or "job specification"


def _show(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
