# SPDX-License-Identifier: Apache-2.0
"""What the Ape scripts are made of: plans, deployments, accounts, providers and tenants.

Ape chooses the network and the account; everything that goes to the chain or comes from it passes
through the agent's own RPC pool and ABI code, so there is one reading of the contracts.
Functions return typed results and tell their progress to a `Ui`; none of them prints.
"""
