# SPDX-License-Identifier: Apache-2.0
"""Job directories: a specification without digests, and the files that it names.

`job.json` is a job specification whose inputs may be bare paths; digests and sizes are filled in
from the files next to it. A path to a directory stands for all files in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from teraproof.errors import LocalError, WrongInput, counted, of_file
from teraproof.protocol import allow_list, jobspec
from teraproof.protocol.digests import check_path, entries, file_digest
from teraproof.protocol.jobspec import JobSpec

TEMPLATE = "job.json"


@dataclass(frozen=True)
class Package:
    """A complete specification and the directory that holds its inputs."""

    spec: JobSpec
    directory: Path


def read(path: Path) -> Package:
    """Complete the template at `path` (a file, or a directory with a job.json).

    WrongInput names the first file or field at fault; its details hold all faults.
    """
    package, faults = examine(path)
    if package is not None:
        return package
    more = len(faults) - 1
    tail = f" (and {counted(more, 'more fault')}; see job check)" if more else ""
    raise WrongInput(f"{faults[0]}{tail}", faults=faults)


def examine(path: Path) -> tuple[Package | None, list[str]]:
    """The package at `path`, or everything that is wrong with it, a line each."""
    file = path / TEMPLATE if path.is_dir() else path
    try:
        document = json.loads(file.read_text())
    except OSError as error:
        return None, [str(of_file(error, file, "cannot read"))]
    except (ValueError, RecursionError) as error:
        return None, [f"{file}: not JSON: {error}"]
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        return None, [f"{file}: not a job specification with a list of inputs"]
    faults: list[str] = []
    inputs: list[Any] = []
    for number, item in enumerate(document["inputs"]):
        try:
            inputs += _complete(item, file.parent)
        except LocalError as error:
            faults.append(f"inputs[{number}]: {error}")
    document["inputs"] = inputs
    faults += jobspec.faults(document)
    if not faults:
        try:
            return Package(jobspec.parse(json.dumps(document).encode()), file.parent), []
        except LocalError as error:
            faults.append(str(error))
    return None, [f"{file}: {fault}" for fault in faults]


def restricted(package: Package, owners: Sequence[str]) -> Package:
    """The package for these providers only; as it is when none is named.

    The list is a part of the specification: whoever has that can show its place on it.
    """
    if not owners:
        return package
    allow = allow_list.ordered(owners)
    return Package(replace(package.spec, allow=allow), package.directory)


def _complete(item: Any, directory: Path) -> list[Any]:
    if isinstance(item, str):
        item = {"path": item}
    if not isinstance(item, dict) or not isinstance(item.get("path"), str):
        raise WrongInput("not a path, nor an object with one")
    path = check_path(item["path"])
    local = directory / path
    if local.is_dir() and not local.is_symlink():
        if set(item) != {"path"}:
            raise WrongInput(f"{path} is a directory; give its path alone")
        return [
            {"path": f"{path}/{entry.path}", "sha256": entry.sha256, "size": entry.size}
            for entry in entries(local)
        ]
    found = {"path": path, "sha256": file_digest(local).hex(), "size": local.stat().st_size}
    for key in ("sha256", "size"):
        if key in item and item[key] != found[key]:
            raise WrongInput(f"{local} has another {key}; remove it or restore the file")
    return [{**item, **found}]
