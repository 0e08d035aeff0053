# SPDX-License-Identifier: Apache-2.0
"""Which models this provider serves for pay, at what prices, and on what terms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from provider_agent.core.settings import (
    Address,
    Amount,
    PublicUrl,
    Section,
    Unit,
    Url,
    load_mapping,
    split,
)
from teraproof.protocol.channels import MAX_WITHDRAW_DELAY
from teraproof.protocol.inference import MOST_LEAST_STEP

_DAY = 86_400
_TOKENS_PAID = Unit("payment tokens")
_TOKENS, _MILLION = Unit("tokens"), Unit("payment tokens per million tokens")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
#: What owners' servers take of OpenAI's API, unless `parameters` says otherwise.
PARAMETERS = (
    "max_tokens", "temperature", "top_p", "stop", "seed", "frequency_penalty", "presence_penalty",
    "logprobs", "top_logprobs", "logit_bias", "tools", "tool_choice", "response_format",
    "structured_outputs",
)  # fmt: skip


def _check_digest(value: str) -> str:
    if value and not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("give the sha256 of the weights as 64 lower-case hex digits")
    return value


class ModelSettings(Section):
    """A model, and the owner's server that runs it."""

    upstream: Url
    """Base URL of an OpenAI-compatible server, such as `http://127.0.0.1:8000/v1`."""
    upstream_model: str = ""
    """What that server calls the model. Without it: as here."""
    key_file: Path | None = None
    """File with the key of that server. Only its owner may read it."""
    prompt_price: Annotated[Amount, _MILLION] = Field(default="0", validate_default=True)
    """Price of what is read."""
    completion_price: Annotated[Amount, _MILLION] = Field(default="0", validate_default=True)
    """Price of what is written."""
    request_price: Annotated[Amount, _TOKENS_PAID] = Field(default="0", validate_default=True)
    """Price of each request, on top."""
    context: Annotated[int, _TOKENS] = Field(default=4_096, ge=1, le=10_000_000)
    """The longest context."""
    max_completion: Annotated[int, _TOKENS] = Field(default=1_024, ge=1, le=1_000_000)
    """The longest answer. A request that names no limit has this one."""
    template: Annotated[int, _TOKENS] = Field(default=256, ge=0, le=1_000_000)
    """What the model's chat template adds to a prompt at the most."""
    digest: Annotated[str, AfterValidator(_check_digest)] = ""
    """The sha256 of the weights. Receipts carry it."""
    quantization: str = Field(default="", max_length=32)
    """How the weights are stored, such as `fp8` or `int4`."""
    kinds: Annotated[
        tuple[Literal["chat", "completions", "embeddings", "responses"], ...],
        BeforeValidator(split),
        Field(min_length=1),
    ] = ("chat", "completions")
    """What may be asked of it."""
    parameters: Annotated[tuple[str, ...], BeforeValidator(split)] = PARAMETERS
    """What the server takes of OpenAI's API; tenants choose by it."""
    max_parallel: Annotated[int, Unit("requests")] = Field(default=64, ge=1, le=100_000)
    """Requests of this model at once."""

    @model_validator(mode="after")
    def _has_a_price(self) -> ModelSettings:
        if not (self.prompt_price or self.completion_price or self.request_price):
            raise ValueError("give it a price: prompt_price, completion_price or request_price")
        return self


class InferenceSettings(Section):
    """Paid inference in front of the owner's own model servers. A model is a table of its own,
    `[inference.models.NAME]`. Without a model nothing listens. Prices are in whole payment tokens.
    """

    models: Annotated[dict[str, ModelSettings], BeforeValidator(load_mapping)] = Field(
        default_factory=dict
    )
    """The models by the names that tenants use."""
    host: str = "0.0.0.0"  # noqa: S104 - tenants come from everywhere
    """Address of the listener for paid requests. It is apart from the API, which stays quick."""
    port: int = Field(default=8703, ge=0, le=65_535)
    """Port of it; 0 takes a free one. It speaks plain HTTP: put a proxy with TLS in front."""
    public_url: PublicUrl | None = None
    """Where tenants reach it. Without it: the host of `api.public_url` with the port."""
    receiver: Address | None = None
    """Who is paid. Without it: the provider's owner. A change ends the use of open channels."""
    token: Address | None = None
    """The token that channels hold. Without it: the payment token of the market."""
    withdraw_delay: Annotated[int, Unit("seconds")] = Field(
        default=_DAY, ge=_DAY, le=MAX_WITHDRAW_DELAY
    )
    """How long a payer's own withdrawal takes; the time in which vouchers are claimed."""
    min_deposit: Annotated[Amount, _TOKENS_PAID] = Field(default="0.05", validate_default=True)
    """The least deposit: some claims' gas."""
    max_unclaimed: Annotated[Amount, _TOKENS_PAID] = Field(default="5", validate_default=True)
    """What may be served on one channel and not be claimed. Above it requests wait for a claim."""
    max_unclaimed_payer: Annotated[Amount | None, _TOKENS_PAID] = None
    """The same on all channels of one payer. Without it: four times `max_unclaimed`."""
    max_unclaimed_total: Annotated[Amount | None, _TOKENS_PAID] = None
    """The same on all channels of all payers. Without it: twenty times `max_unclaimed`."""
    claim_hours: float = Field(default=24.0, gt=0)
    """After this time what was served is claimed, and what was claimed is paid out, once it brings
    more than its gas. Sooner only where gas is at most a twentieth of it."""
    max_parallel: Annotated[int, Unit("requests")] = Field(default=1_024, ge=1, le=100_000)
    """Requests of all models at once."""
    per_address: Annotated[int, Unit("requests")] = Field(default=1_024, ge=1, le=100_000)
    """Connections of one network address at once."""
    max_deposits: Annotated[int, Unit("deposits")] = Field(default=64, ge=1, le=10_000)
    """Deposits that wait for the chain at once."""
    newcomer_deposits: Annotated[int, Unit("deposits")] = Field(default=64, ge=1, le=100_000)
    """Deposits of a day whose gas newcomers have not brought back yet; a quarter of them may be one
    payer's. Above it only payers that have brought the gas of theirs get more."""
    body_mb: int = Field(default=4, ge=1, le=256)
    """Longest request."""
    answer_mb: int = Field(default=16, ge=1, le=1_024)
    """Longest answer of a model's server."""
    answers_mb: int = Field(default=512, ge=16, le=1_048_576)
    """Memory of all answers that are made or sent at once. Above it requests are refused."""
    min_step: Annotated[int, _TOKENS] = Field(default=16, ge=1, le=MOST_LEAST_STEP)
    """The least step of a stream. Each step costs a signature and a place on the disk."""
    step_wait: Annotated[int, Unit("seconds")] = Field(default=30, ge=1, le=600)
    """How long a stream waits for the voucher of its next step, and four times that for all."""
    deposit_wait: Annotated[int, Unit("seconds")] = Field(default=120, ge=1, le=600)
    """How long a request waits for its deposit to be confirmed."""
    first_wait: Annotated[int, Unit("seconds")] = Field(default=120, ge=1, le=3_600)
    """How long a model's server may take for the beginning of an answer, or its next piece."""

    @model_validator(mode="after")
    def _names_are_fit(self) -> InferenceSettings:
        for name in self.models:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"models: {name!a} is not a name; use letters, digits and . _ : / @ -"
                )
        return self
