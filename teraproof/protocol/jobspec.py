# SPDX-License-Identifier: Apache-2.0
"""Job specifications: JSON by a strict schema, named by the sha256 of their RFC 8785 form.

`parse` reads a file that a person wrote; `parse_named` reads what came over the wire under a
digest, where only the canonical bytes will do.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any

from teraproof.errors import LocalError, SpecError
from teraproof.protocol import allow_list
from teraproof.protocol.comparison import Comparison
from teraproof.protocol.digests import Entry
from teraproof.protocol.documents import Form
from teraproof.protocol.paths import check_path, check_tree

MAX_BYTES = 256 << 10
#: Processes and threads of a deterministic job, and MiB of what it prints that are kept (four times
#: as much end it). Another machine must end such a job in the same way: no provider chooses these.
PROCESSES, PRINTED_MB = 256, 16

_SCHEMA: dict[str, Any] = json.loads(
    resources.files(__package__).joinpath("job_spec.schema.json").read_text("utf-8")
)
#: The schema of a path of inputs, outputs and results.
PATH_SCHEMA: Mapping[str, Any] = _SCHEMA["$defs"]["path"]
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
    return FORM.canonical(document)


def digest(document: Any) -> bytes:
    """The sha256 of the canonical bytes of a JSON value."""
    return FORM.digest(document)


def parse(data: bytes) -> JobSpec:
    """Read a specification, however it is laid out. SpecError is one line that names the field."""
    return _build(FORM.load(data))


def parse_named(data: bytes, name: bytes) -> JobSpec:
    """Read a specification that is known by its digest `name` (32 bytes).

    SpecError unless `data` is exactly the canonical form and hashes to `name`.
    """
    FORM.check_name(data, name)
    spec = parse(data)
    FORM.check_canonical(data, spec.to_json())
    return spec


def faults(document: Any) -> list[str]:
    """Everything that is wrong with a document, a line each, in its order; none for a valid one.

    The first of them is what `parse` would say.
    """
    found = FORM.faults(document)
    if found:
        return found
    try:
        _build(document)
    except SpecError as error:
        return [str(error)]
    return []


def _build(document: Any) -> JobSpec:
    FORM.check(document)
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
    if not allow_list.is_ordered(allow):
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


def _text_fault(path: str, text: str, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a text, if more can be said than what is expected."""
    pattern = _CONTROL_IN_ARGUMENT if path.startswith("command[") else _CONTROL
    found = pattern.search(text)
    if found is not None:
        return f"{FORM.named(path)}: control character {found[0]!a}; remove it"
    if schema.get("title") == "path":
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


#: How job specifications are read and named.
FORM = Form(
    "job specification",
    _SCHEMA,
    MAX_BYTES,
    instead="move data to inputs",
    fraction=_as_text,
    text_fault=_text_fault,
)
