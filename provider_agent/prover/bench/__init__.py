# SPDX-License-Identifier: Apache-2.0
"""How fast this machine proves, measured without a chain."""
