# SPDX-License-Identifier: Apache-2.0
"""For tenants: rent capacity by the second. Each module adds commands to the group."""

from __future__ import annotations

from teraproof.cli import lease_check, lease_end, lease_plane, lease_rent, lease_run
from teraproof.cli.lease_group import cli

__all__ = ["cli", "lease_check", "lease_end", "lease_plane", "lease_rent", "lease_run"]
