# SPDX-License-Identifier: Apache-2.0
"""A hostile hour against one agent, with honest jobs beside it, compressed to minutes."""
