# SPDX-License-Identifier: Apache-2.0
"""The deployer: plans, their bounds, contracts, transactions, and what is verified."""
