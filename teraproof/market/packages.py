# SPDX-License-Identifier: Apache-2.0
"""Job directories: a specification without digests, and the files that it names.

`job.json` is a job specification whose inputs may be bare paths; digests and sizes are filled in
from the files beside it. A path to a directory stands for all files in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from teraproof.errors import LocalError, WrongInput
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

    LocalError names the file or the field at fault.
    """
    file = path / TEMPLATE if path.is_dir() else path
    try:
        document = json.loads(file.read_text())
    except OSError as error:
        raise WrongInput(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise WrongInput(f"{file}: not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        raise WrongInput(f"{file}: not a job specification with a list of inputs")
    try:
        document["inputs"] = [
            found
            for number, item in enumerate(document["inputs"])
            for found in _complete(f"inputs[{number}]", item, file.parent)
        ]
        return Package(jobspec.parse(json.dumps(document).encode()), file.parent)
    except LocalError as error:
        raise WrongInput(f"{file}: {error}") from None


def restricted(package: Package, owners: Sequence[str]) -> Package:
    """The package for these providers only; as it is when none is named.

    The list is a part of the specification: whoever has that can show its place on it.
    """
    if not owners:
        return package
    allow = allow_list.ordered(owners)
    return Package(replace(package.spec, allow=allow), package.directory)


def _complete(where: str, item: Any, directory: Path) -> list[Any]:
    if isinstance(item, str):
        item = {"path": item}
    if not isinstance(item, dict) or not isinstance(item.get("path"), str):
        raise WrongInput(f"{where}: not a path, nor an object with one")
    path = check_path(item["path"])
    local = directory / path
    if local.is_dir() and not local.is_symlink():
        if set(item) != {"path"}:
            raise WrongInput(f"{where}: {path} is a directory; give its path alone")
        return [
            {"path": f"{path}/{entry.path}", "sha256": entry.sha256, "size": entry.size}
            for entry in entries(local)
        ]
    found = {"path": path, "sha256": file_digest(local).hex(), "size": local.stat().st_size}
    for key in ("sha256", "size"):
        if key in item and item[key] != found[key]:
            raise WrongInput(f"{where}: {local} has another {key}; remove it or restore the file")
    return [{**item, **found}]
