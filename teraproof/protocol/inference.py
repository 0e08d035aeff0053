# SPDX-License-Identifier: Apache-2.0
"""Paid inference: what a request costs, the receipt that proves an answer, and the models on offer.

A provider serves models behind the API of OpenAI and is paid through a channel (`protocol.x402`,
`protocol.channels`). Amounts are units of the payment token. Nothing here asks a node.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Self

from eth_account.signers.local import LocalAccount

from teraproof import nesting
from teraproof.errors import LocalError
from teraproof.protocol.channels import CHANNELS
from teraproof.protocol.json_fields import (
    amount_of,
    from_base64,
    object_of,
    signature_of,
    text_of,
    texts_of,
    to_base64,
    word_of,
)
from teraproof.protocol.messages import Domain, Fields, Struct, check_members, recover, sign
from teraproof.protocol.terms import address

#: Completion tokens after which the provider wants the next voucher; a request's header.
STEP_HEADER = "Teraproof-Step"
#: The receipt of an answer that is not streamed, JSON in base64.
RECEIPT_HEADER = "Teraproof-Receipt"
#: Where vouchers for a stream that runs are sent: `POST`, with the body of `PAYMENT-SIGNATURE`.
VOUCHERS_PATH = "/v1/vouchers"
#: What our own lines of a stream begin with: comments, which every reader of SSE leaves out.
COMMENT = b": teraproof "
#: The last event of a stream.
DONE = b"data: [DONE]\n\n"

#: The largest least step that a provider may have: a payer's risk is up to two steps.
MOST_LEAST_STEP = 256

#: Prices of tokens are for a million of them.
PER = 10**6
_MOST_BYTES = 4 << 10  # of a receipt

#: The path of each kind of request.
PATHS: Mapping[str, str] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "responses": "/v1/responses",
}


# ---------------------------------------------------------------------- prices


@dataclass(frozen=True)
class Prices:
    """Units of the payment token: `prompt` and `completion` for a million tokens, `request` for
    each request.
    """

    prompt: int
    completion: int
    request: int = 0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """What a request costs, rounded up once."""
        tokens = prompt_tokens * self.prompt + completion_tokens * self.completion
        return -(-tokens // PER) + self.request

    def to_json(self) -> dict[str, str]:
        """Decimal text."""
        return {name: str(getattr(self, name)) for name in ("prompt", "completion", "request")}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The inverse. LocalError for anything else."""
        found = object_of(value, "prices")
        return cls(*(amount_of(found, name) for name in ("prompt", "completion", "request")))


def prompt_bound(body: bytes, overhead: int) -> int:
    """Tokens that the prompt of a request has at the most.

    A token is at least one byte of what is sent, so the body's bytes bound them. `overhead` are the
    tokens that a model's template adds.
    """
    return len(body) + overhead


# ---------------------------------------------------------------------- receipts


@dataclass(frozen=True)
class Receipt(Struct):
    """The operator's word that a request was answered, and what it was charged.

    `number` counts the channel's requests from 1. `request` is the sha256 of the request's body.
    `response` is that of the answer's body; of a stream, of all bytes before the receipt, without
    our own comments (`Transcript`). `model` is the sha256 of the weights as the owner states it,
    zero where none is stated. `charged` is of this request so far, `cumulative` of the channel
    after it. Signed under `receipt_domain`.
    """

    TYPE: ClassVar[str] = "Receipt"
    FIELDS: ClassVar[Fields] = (
        ("channel", "bytes32"),
        ("number", "uint64"),
        ("request", "bytes32"),
        ("response", "bytes32"),
        ("model", "bytes32"),
        ("promptTokens", "uint64"),
        ("completionTokens", "uint64"),
        ("charged", "uint128"),
        ("cumulative", "uint128"),
        ("started", "uint64"),
        ("finished", "uint64"),
    )

    channel: bytes
    number: int
    request: bytes
    response: bytes
    model: bytes
    prompt_tokens: int
    completion_tokens: int
    charged: int
    cumulative: int
    started: int
    finished: int


check_members(Receipt)


def receipt_domain(chain_id: int, channels: str = CHANNELS) -> Domain:
    """The domain of receipts: Teraproof's own, at the contract of channels."""
    return Domain(chain_id, channels)


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt and the operator's signature."""

    receipt: Receipt
    signature: bytes

    @classmethod
    def make(cls, domain: Domain, receipt: Receipt, operator: LocalAccount) -> Self:
        """Sign a receipt."""
        return cls(receipt, sign(domain, receipt, operator))

    def signer(self, domain: Domain) -> str:
        """Who signed it. LocalError when nobody can have done so."""
        return recover(domain, self.receipt, self.signature)

    def check(self, domain: Domain, operator: str) -> None:
        """LocalError unless this operator has signed it."""
        if self.signer(domain) != address("operator", operator):
            raise LocalError("receipt: another key than the operator's has signed it")

    def to_json(self) -> dict[str, Any]:
        """Digests in hex, uint64 as numbers, amounts as decimal text."""
        shown: dict[str, Any] = {}
        for (member, kind), value in zip(
            Receipt.FIELDS, self.receipt.values().values(), strict=True
        ):
            if kind == "bytes32":
                shown[member] = f"0x{value.hex()}"
            else:
                shown[member] = str(value) if kind == "uint128" else value
        return {"receipt": shown, "signature": f"0x{self.signature.hex()}"}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The inverse. LocalError for anything else."""
        found = object_of(value, "receipt")
        said = object_of(found.get("receipt"), "receipt")
        members: list[Any] = []
        for member, kind in Receipt.FIELDS:
            if kind == "bytes32":
                members.append(word_of(said, member))
            else:
                members.append(amount_of(said, member))
        return cls(Receipt(*members), signature_of(found))

    def to_header(self) -> str:
        """The value of `Teraproof-Receipt`."""
        return to_base64(self.to_json())

    @classmethod
    def from_header(cls, value: str) -> Self:
        """The inverse. LocalError for anything else."""
        return cls.from_json(from_base64(value, RECEIPT_HEADER, _MOST_BYTES))

    def to_comment(self) -> bytes:
        """The comment of a stream that carries it, with the empty line that ends it."""
        return COMMENT + _dump(self.to_json()) + b"\n\n"

    @classmethod
    def from_comment(cls, line: bytes) -> Self | None:
        """From a line of a stream; None for one that is not ours. LocalError for a wrong form."""
        if not line.startswith(COMMENT):
            return None
        try:
            found = nesting.loads(line[len(COMMENT) :])
        except (ValueError, RecursionError):
            raise LocalError("receipt: the comment is not JSON") from None
        return cls.from_json(found)


class Transcript:
    """The running sha256 of a stream's bytes, our own comments left out: a receipt's `response`.

    Feed it what came, in pieces of any size. Memory is bounded: no more than the beginning of one
    line is held back.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._start = b""  # of a line that may be ours
        self._inside = False  # a comment of ours
        self._blank = False  # the empty line behind one
        self._fresh = True  # at the beginning of a line

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        data, self._start = self._start + data, b""
        while data:
            if self._inside:
                end = data.find(b"\n")
                if end < 0:
                    return
                data, self._inside, self._blank, self._fresh = data[end + 1 :], False, True, True
            elif self._blank:
                if data[:1] == b"\n":
                    data = data[1:]
                self._blank = False
            elif self._fresh and (data.startswith(COMMENT) or COMMENT.startswith(data)):
                if len(data) < len(COMMENT):
                    self._start = data
                    return
                self._inside = True
            else:
                end = data.find(b"\n") + 1
                line = data[:end] if end else data
                self._hash.update(line)
                data, self._fresh = data[len(line) :], bool(end)

    def digest(self) -> bytes:
        """Of all that came so far, 32 bytes."""
        found = self._hash.copy()
        found.update(self._start)
        return found.digest()


# ---------------------------------------------------------------------- models


@dataclass(frozen=True)
class Model:
    """A model on offer.

    `context` and `max_completion` are tokens. `overhead` are the tokens that bound its template
    (see `prompt_bound`). `digest` is the sha256 of the weights as the owner states it, 64 hex
    digits, or empty. `kinds` are keys of `PATHS`. `parameters` are those of OpenAI's API that the
    owner's server takes.
    """

    name: str
    prices: Prices
    context: int
    max_completion: int
    overhead: int
    kinds: tuple[str, ...]
    digest: str = ""
    quantization: str = ""
    parameters: tuple[str, ...] = ()

    @property
    def word(self) -> bytes:
        """The digest as it stands in receipts."""
        return bytes.fromhex(self.digest) if self.digest else bytes(32)

    def ceiling(self, body: bytes, completion_tokens: int) -> int:
        """The most that a request with this body and as many completion tokens can cost."""
        return self.prices.cost(prompt_bound(body, self.overhead), completion_tokens)

    def to_json(self) -> dict[str, Any]:
        """Its row in `GET /v1/provider`."""
        return {
            "id": self.name,
            "prices": self.prices.to_json(),
            "context_length": self.context,
            "max_completion_tokens": self.max_completion,
            "template_tokens": self.overhead,
            "kinds": list(self.kinds),
            "digest": self.digest,
            "quantization": self.quantization,
            "supported_parameters": list(self.parameters),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The inverse. LocalError for anything else; kinds of a newer provider are left out."""
        found = object_of(value, "model")
        name, digest = found.get("id"), found.get("digest", "")
        if not isinstance(name, str) or not name or not isinstance(digest, str):
            raise LocalError("model: `id` and `digest` are texts")
        if digest and not (len(digest) == 64 and set(digest) <= set("0123456789abcdef")):
            raise LocalError("model: `digest` is 64 lower-case hex digits, or empty")
        return cls(
            name=name,
            prices=Prices.from_json(found.get("prices")),
            context=amount_of(found, "context_length"),
            max_completion=amount_of(found, "max_completion_tokens"),
            overhead=amount_of(found, "template_tokens"),
            kinds=tuple(kind for kind in texts_of(found, "kinds") if kind in PATHS),
            digest=digest,
            quantization=str(found.get("quantization") or ""),
            parameters=texts_of(found, "supported_parameters"),
        )

    def listed(self, created: int, owner: str, decimals: int) -> dict[str, Any]:
        """Its row in `GET /v1/models`: OpenAI's fields, and those that OpenRouter adds.

        Prices are in whole tokens there, for one token of text.
        """
        one = Decimal(10) ** -decimals
        return {
            "id": self.name,
            "object": "model",
            "created": created,
            "owned_by": owner,
            "name": self.name,
            "context_length": self.context,
            "pricing": {
                "prompt": _plain(self.prices.prompt * one / PER),
                "completion": _plain(self.prices.completion * one / PER),
                "request": _plain(self.prices.request * one),
            },
            "top_provider": {
                "context_length": self.context,
                "max_completion_tokens": self.max_completion,
                "is_moderated": False,
            },
            "supported_parameters": list(self.parameters),
            "digest": self.digest,
            "quantization": self.quantization,
            "kinds": list(self.kinds),
        }


@dataclass(frozen=True)
class InferenceOffer:
    """What `GET /v1/provider` says under `inference`: where to ask, how to pay, and for what.

    `url` is where the paths of `PATHS` are. `authorizer` is the operator, whose key claims and
    signs receipts. `withdraw_delay` and `step_wait` are seconds, `min_deposit` units of the token.
    """

    url: str
    network: str
    channels: str
    token: str
    token_name: str
    token_version: str
    decimals: int
    receiver: str
    authorizer: str
    withdraw_delay: int
    min_deposit: int
    step_wait: int
    models: tuple[Model, ...]
    min_step: int = 1
    """The least step of a stream, in completion tokens."""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "url": self.url,
            "network": self.network,
            "channels": self.channels,
            "token": {
                "address": self.token,
                "name": self.token_name,
                "version": self.token_version,
                "decimals": self.decimals,
            },
            "receiver": self.receiver,
            "receiver_authorizer": self.authorizer,
            "withdraw_delay": self.withdraw_delay,
            "min_deposit": str(self.min_deposit),
            "step_wait": self.step_wait,
            "min_step": self.min_step,
            "models": [model.to_json() for model in self.models],
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The inverse. LocalError for anything else."""
        found = object_of(value, "inference")
        token = object_of(found.get("token"), "token")
        models = found.get("models")
        if not isinstance(models, list):
            raise LocalError("inference: `models` is not a list")
        least = amount_of(found, "min_step", 1)
        if not 1 <= least <= MOST_LEAST_STEP:
            raise LocalError(f"inference: `min_step` is a number from 1 to {MOST_LEAST_STEP}")
        return cls(
            url=text_of(found, "url"),
            network=text_of(found, "network"),
            channels=address("inference.channels", found.get("channels")),
            token=address("inference.token", token.get("address")),
            token_name=text_of(token, "name"),
            token_version=text_of(token, "version"),
            decimals=amount_of(token, "decimals"),
            receiver=address("inference.receiver", found.get("receiver")),
            authorizer=address("inference.receiver_authorizer", found.get("receiver_authorizer")),
            withdraw_delay=amount_of(found, "withdraw_delay"),
            min_deposit=amount_of(found, "min_deposit"),
            step_wait=amount_of(found, "step_wait"),
            models=tuple(Model.from_json(model) for model in models),
            min_step=least,
        )


# ---------------------------------------------------------------------- parts


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
