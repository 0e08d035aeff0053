# SPDX-License-Identifier: Apache-2.0
"""Everything the agent knows of the chain: nodes, contracts, events, and its own transactions."""
