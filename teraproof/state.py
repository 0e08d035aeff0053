# SPDX-License-Identifier: Apache-2.0
"""Where commands keep what they can do without: losing it loses no money and no job."""

from __future__ import annotations

import os
from pathlib import Path


def state_directory() -> Path:
    """`teraproof` below XDG_STATE_HOME, by default ~/.local/state. RuntimeError without a home."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "teraproof"
