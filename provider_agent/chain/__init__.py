# SPDX-License-Identifier: Apache-2.0
"""What the agent knows of the chain: contracts, events, and how fast blocks come."""
