# SPDX-License-Identifier: Apache-2.0
"""Nodes: several endpoints used as one. The only place that reads a node's words."""
