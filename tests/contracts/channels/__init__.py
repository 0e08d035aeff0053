# SPDX-License-Identifier: Apache-2.0
"""Payment channels, call by call."""
