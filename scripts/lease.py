# SPDX-License-Identifier: Apache-2.0
"""For tenants, with Ape's accounts: the commands of `teraproof lease`.

ape run lease check deploy.yaml
ape run lease hire deploy.yaml 0xOWNER --network ethereum:sepolia --account NAME --term "6 hours"
"""

from scripts.market.command import on_ape
from teraproof.cli import lease

cli = on_ape(lease.cli)
