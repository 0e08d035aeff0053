# SPDX-License-Identifier: Apache-2.0
"""Runners execute a job and keep it within its limits, whatever becomes of the agent."""
