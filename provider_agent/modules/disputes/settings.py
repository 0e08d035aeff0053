# SPDX-License-Identifier: Apache-2.0
"""Whether this provider judges disputes of others, and how it defends its own."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from provider_agent.core.settings import Amount, Section, Unit, load_mapping
from teraproof.errors import LocalError
from teraproof.protocol.capability import Capability

_Seats = Annotated[int, Field(ge=0, le=2**31)]


def _check_capability(value: str) -> str:
    try:
        return str(Capability.parse(value))
    except LocalError as error:
        raise ValueError(str(error)) from None


class DisputesSettings(Section):
    """Disputes over judged orders: as a juror, and as a provider whose result is disputed."""

    seats: Annotated[
        dict[Annotated[str, AfterValidator(_check_capability)], _Seats],
        BeforeValidator(load_mapping),
        Unit("seats by capability"),
    ] = Field(default_factory=dict)
    """What this machine judges, such as `{"batch|python-ml|cpu" = 1}`. Each seat locks stake of the
    owner, and the term is renewed. 0 gives the seats up. A juror that is drawn must be on line:
    silence burns stake.
    """
    appeal_up_to: Annotated[Amount, Unit("payment tokens")] = Decimal(100)
    """Highest bond for which a ruling against a result of this machine is appealed. The operator
    pays it, from its credit in `Jobs` or from its own account. 0 never appeals.
    """
    conclude: bool = True
    """Carry out final rulings that pay this provider. Anyone may, and it costs gas."""
