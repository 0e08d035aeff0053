# SPDX-License-Identifier: Apache-2.0
"""What is on offer: models with their prices in units, and the terms of a payment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from provider_agent.modules.inference.settings import InferenceSettings, ModelSettings
from teraproof.errors import Refused
from teraproof.protocol.channels import CHANNELS
from teraproof.protocol.errors import Code
from teraproof.protocol.inference import InferenceOffer, Model, Prices
from teraproof.protocol.messages import Domain
from teraproof.protocol.x402 import Terms, network


@dataclass(frozen=True)
class Payee:
    """Who is paid, in what. `token` is the domain under which payers sign deposits of it."""

    chain_id: int
    operator: str
    token: Domain
    decimals: int
    receiver: Callable[[], str | None]
    """None while the operator works for nobody."""

    @property
    def unit(self) -> int:
        """Units of a whole token."""
        return int(10**self.decimals)


class Offers:
    """See the module. Used from any thread."""

    def __init__(self, settings: InferenceSettings, payee: Payee, url: Callable[[], str]) -> None:
        self._settings, self.payee, self._url = settings, payee, url
        #: By their names.
        self.models: Mapping[str, Model] = {
            name: model_of(name, one, payee.unit) for name, one in settings.models.items()
        }
        self.min_deposit = _units(settings.min_deposit, payee.unit)
        self.min_step = settings.min_step
        self.max_unclaimed = _units(settings.max_unclaimed, payee.unit)

    @property
    def url(self) -> str:
        """Where tenants reach it."""
        return self._url()

    def model(self, name: object) -> Model:
        """The model that a request names. Refused."""
        found = self.models.get(name) if isinstance(name, str) else None
        if found is None:
            raise Refused(
                Code.MODEL_UNKNOWN,
                "model: name one of GET /v1/models",
                field="model",
                offered=sorted(self.models)[:64],
            )
        return found

    def terms(self, amount: int) -> Terms:
        """What a request wants that costs at most `amount` units. Refused without a receiver."""
        payee = self.payee
        return Terms(
            network=network(payee.chain_id),
            asset=payee.token.contract,
            amount=amount,
            pay_to=self.receiver(),
            max_timeout_seconds=self._settings.deposit_wait,
            receiver_authorizer=payee.operator,
            withdraw_delay=self._settings.withdraw_delay,
            name=payee.token.name,
            version=payee.token.version,
            min_deposit=max(self.min_deposit, amount),
            min_step=self.min_step,
        )

    def receiver(self) -> str:
        """Who is paid. Refused while that is nobody."""
        found = self.payee.receiver()
        if found is None:
            raise Refused(Code.NOT_REGISTERED, "the provider is not registered yet; try later")
        return found

    def offer(self) -> InferenceOffer | None:
        """For `GET /v1/provider`; None without a receiver."""
        payee, receiver = self.payee, self.payee.receiver()
        if receiver is None:
            return None
        return InferenceOffer(
            url=self.url,
            network=network(payee.chain_id),
            channels=CHANNELS,
            token=payee.token.contract,
            token_name=payee.token.name,
            token_version=payee.token.version,
            decimals=payee.decimals,
            receiver=receiver,
            authorizer=payee.operator,
            withdraw_delay=self._settings.withdraw_delay,
            min_deposit=self.min_deposit,
            step_wait=self._settings.step_wait,
            models=tuple(self.models.values()),
            min_step=self.min_step,
        )


def model_of(name: str, settings: ModelSettings, unit: int) -> Model:
    """A model as tenants see it; `unit` is units of a whole token."""
    return Model(
        name=name,
        prices=Prices(
            prompt=_units(settings.prompt_price, unit),
            completion=_units(settings.completion_price, unit),
            request=_units(settings.request_price, unit),
        ),
        context=settings.context,
        max_completion=settings.max_completion,
        overhead=settings.template,
        kinds=settings.kinds,
        digest=settings.digest,
        quantization=settings.quantization,
        parameters=settings.parameters,
    )


def _units(amount: Decimal, unit: int) -> int:
    return int((amount * unit).to_integral_value(ROUND_CEILING))
