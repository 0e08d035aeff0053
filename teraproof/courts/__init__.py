# SPDX-License-Identifier: Apache-2.0
"""Disputes as programs see them: what a vote is, and how a case stands on the chain."""
