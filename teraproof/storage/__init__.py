# SPDX-License-Identifier: Apache-2.0
"""Bytes in places named by URIs: fetched and sent in pieces, resumed after any break, and used only
when their sha256 is what it should be. Checkpoints of running work stand on it.
"""
