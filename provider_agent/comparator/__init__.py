# SPDX-License-Identifier: Apache-2.0
"""Compares the results of two runs of one job, by the rule that its specification names."""
