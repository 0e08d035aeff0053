# SPDX-License-Identifier: Apache-2.0
"""What the agent owes, one module a duty. Each is a reconciler: it reads the chain at one pinned
block, compares it with what is on the disk, and writes intents and runs for the difference. Doing
it twice changes nothing, and nothing is remembered between two cycles that a restart would miss.
"""
