# SPDX-License-Identifier: Apache-2.0
"""Leases on one agent: what a hundred of them cost it, and what is paid while things are killed."""
