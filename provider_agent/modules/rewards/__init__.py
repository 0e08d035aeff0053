# SPDX-License-Identifier: Apache-2.0
"""Rewards: claims what the provider earned in its last epoch."""
