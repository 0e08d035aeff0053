# SPDX-License-Identifier: Apache-2.0
"""Days of one agent's life in minutes, and what they cost its nodes."""
