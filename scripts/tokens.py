# SPDX-License-Identifier: Apache-2.0
"""Tokens to begin with, with Ape's accounts: the commands of `teraproof tokens`.

ape run tokens mint 100 --network ethereum:sepolia --account NAME
"""

from scripts.market.command import on_ape
from teraproof.cli import tokens

cli = on_ape(tokens.cli)
