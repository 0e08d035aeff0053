# SPDX-License-Identifier: Apache-2.0
"""Our own transactions: the key, what is sent with it, at which price, and what became of it."""
