# SPDX-License-Identifier: Apache-2.0
"""For tenants, with Ape's accounts: the commands of `teraproof lease`.

ape run lease check deploy.yaml
"""

from scripts.market.command import on_ape
from teraproof.cli import lease

cli = on_ape(lease.cli)
