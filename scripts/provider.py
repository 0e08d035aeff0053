# SPDX-License-Identifier: Apache-2.0
"""For owners of GPUs and delegators, with Ape's accounts: the commands of `teraproof provider`.

ape run provider register --network ethereum:sepolia --account NAME --consent consent.json
"""

from scripts.market.command import on_ape
from teraproof.cli import provider

cli = on_ape(provider.cli)
