# SPDX-License-Identifier: Apache-2.0
"""Proof-of-GPU, with Ape's accounts: the commands of `teraproof proof`.

ape run proof status --network ethereum:sepolia
"""

from scripts.market.command import on_ape
from teraproof.cli import proof

cli = on_ape(proof.cli)
