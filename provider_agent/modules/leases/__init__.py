# SPDX-License-Identifier: Apache-2.0
"""Leases of this machine: see `module`."""
