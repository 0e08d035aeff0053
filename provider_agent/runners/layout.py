# SPDX-License-Identifier: Apache-2.0
"""The files of a run's result, and the manifest that names them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from provider_agent.runners.base import RunState
from provider_agent.runners.outputs import remove_tree
from teraproof.protocol.digests import manifest
from teraproof.protocol.outcome import FAILURE, Ending


def lay_out(files: Path, state: RunState, outputs: Path | None, salt: bytes | None = None) -> bytes:
    """Puts the files of a result in place, which must be new, and returns their manifest.

    `outputs` is None where none were collected. Raises UnfitTree, OSError.
    """
    if outputs is None:
        files.mkdir()
    else:
        # Links, not copies: nobody writes to collected outputs any more.
        shutil.copytree(outputs, files, copy_function=os.link)
    if not state.succeeded or outputs is None:
        # Ours, not one that the job has made: a second name of that is left to the job's own.
        remove_tree(files / FAILURE)
        reason = "unknown" if state.reason is None else state.reason.value
        ending = Ending(reason, state.exit_code)
        (files / FAILURE).write_bytes(ending.failure(state.unfit, salt))
    return manifest(files)
