# SPDX-License-Identifier: Apache-2.0
"""What people do in the market: jobs, providers, proofs, rewards and tokens, on chain and off it.

Functions return typed results and report their progress to a `Ui`. They do not print.
"""
