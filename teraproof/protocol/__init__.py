# SPDX-License-Identifier: Apache-2.0
"""What the parties say to each other: messages, terms, codes."""
