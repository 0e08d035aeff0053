# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP API: server, limits, errors and routes."""
