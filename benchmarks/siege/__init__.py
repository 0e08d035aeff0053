# SPDX-License-Identifier: Apache-2.0
"""A hostile hour against one agent, with honest jobs next to it, compressed to minutes."""
