# SPDX-License-Identifier: Apache-2.0
"""What a lease begins with: its newest checkpoint that is whole."""

from __future__ import annotations

import logging

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.checkpoints import resume_into
from teraproof.storage.layout import Checkpoint, Destination
from teraproof.storage.target import Target

log = logging.getLogger(__name__)

_LOOKED_AT = 4  # checkpoints that are tried when the newest ones are damaged


def newest(destination: Destination, target: Target) -> Checkpoint | None:
    """Have the newest checkpoint that is whole at `target`; None where nothing was saved. Of those
    that are damaged a few are looked at: who writes there could leave any number of them.
    """
    damaged: LocalError | None = None
    for each in destination.listed()[: -_LOOKED_AT - 1 : -1]:
        try:
            return resume_into(destination, target, each.name)[0]
        except LocalError as error:
            if error.code is not Code.CHECKPOINT_DAMAGED:
                raise
            log.warning("%s", error)
            damaged = error
    if damaged is not None:
        raise damaged
    return None
