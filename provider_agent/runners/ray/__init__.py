# SPDX-License-Identifier: Apache-2.0
"""Leases on a fleet: Ray places, a process of ours on each machine contains."""
