# SPDX-License-Identifier: Apache-2.0
"""What only Ape and a deployer need: plans, deployments, accounts, networks, the demo."""
