# SPDX-License-Identifier: Apache-2.0
"""Rewards for proven throughput, with Ape's accounts: the commands of `teraproof rewards`.

ape run rewards show --provider 0x... --network ethereum:sepolia
"""

from scripts.market.command import on_ape
from teraproof.cli import rewards

cli = on_ape(rewards.cli)
