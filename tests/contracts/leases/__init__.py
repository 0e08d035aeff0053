# SPDX-License-Identifier: Apache-2.0
"""Leases, call by call."""
