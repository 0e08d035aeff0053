# SPDX-License-Identifier: Apache-2.0
"""For tenants, with Ape's accounts: the commands of `teraproof job`.

ape run job post examples/finetune-digits --network ethereum:sepolia --account NAME --price 2
"""

from scripts.market.command import on_ape
from teraproof.cli import job

cli = on_ape(job.cli)
