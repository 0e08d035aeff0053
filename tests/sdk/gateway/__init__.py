# SPDX-License-Identifier: Apache-2.0
"""The gateway, against providers that are played over real HTTP."""
