# SPDX-License-Identifier: Apache-2.0
"""Jurors, with Ape's accounts: the commands of `teraproof juror`.

ape run juror status --network ethereum:sepolia --account NAME
"""

from scripts.market.command import on_ape
from teraproof.cli import juror

cli = on_ape(juror.cli)
