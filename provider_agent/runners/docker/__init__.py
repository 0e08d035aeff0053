# SPDX-License-Identifier: Apache-2.0
"""Leases in containers of Docker Engine."""
