# SPDX-License-Identifier: Apache-2.0
"""Disputes, with Ape's accounts: the commands of `teraproof dispute`.

ape run dispute status JOB --network ethereum:sepolia
"""

from scripts.market.command import on_ape
from teraproof.cli import dispute

cli = on_ape(dispute.cli)
