# SPDX-License-Identifier: Apache-2.0
"""What the agent owes, one folder a duty."""
