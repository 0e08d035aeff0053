# SPDX-License-Identifier: Apache-2.0
"""Disputes: jurors judge results again, parties defend theirs."""
