# SPDX-License-Identifier: Apache-2.0
"""A request for a model as OpenAI's API has it: what bounds its cost, and what is not sold.

Provider and payer read a request alike, so both reckon one ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from teraproof import nesting
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.inference import Model
from teraproof.protocol.inference_fields import is_text, sold, unfit

#: Answers of one request at the most.
MOST_CHOICES = 8
#: Prompts, or inputs of embeddings, of one request at the most.
MOST_PIECES = 2_048
_LONG = ("logprobs", "top_logprobs", "include", "echo")  # fields that ask for more than text
_BYTES_OF_TOKEN = 256  # many times what one has on average
_BYTES_OF_LOGPROBS = 16 << 10  # of a token with twenty alternatives
_BYTES_OF_VECTOR = 256 << 10  # of an embedding with 8,192 numbers
# A field or a list takes microseconds to read, and thirty times its bytes while it is served. What
# is read before it is paid for must not hold up those who pay.
_MOST_NODES, _MOST_VALUES = 1 << 16, 300_000

_LIMITS = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
}
# What a server would have to remember, or what costs more tokens than the limits say.
_UNSOLD: Mapping[str, tuple[str, ...]] = {
    "chat": ("store",),
    "completions": (),
    "embeddings": (),
    "responses": ("store", "background"),
}
_NEVER: Mapping[str, tuple[str, ...]] = {
    "chat": (),
    "completions": (),
    "embeddings": (),
    "responses": ("previous_response_id", "conversation"),
}


@dataclass(frozen=True)
class ModelRequest:
    """A request that was read. `limit` are the completion tokens of all its answers together,
    `prompt_bound` is the most that its prompts can have together.
    """

    kind: str
    document: Mapping[str, Any]
    limit: int
    each: int
    """Completion tokens of one answer."""
    limits: tuple[str, ...]
    """The fields that bound them upstream: servers read one or the other. None for embeddings."""
    prompt_bound: int
    stream: bool
    wants_usage: bool
    """Whether the client of a stream asks for its usage."""

    @classmethod
    def read(cls, kind: str, body: bytes, model: Model) -> Self:
        """From the body of a request to the path of `kind`. Refused names the field."""
        return cls.of(kind, parse(body), len(body), model)

    @classmethod
    def of(cls, kind: str, document: Mapping[str, Any], size: int, model: Model) -> Self:
        """The same from a document that was parsed from `size` bytes."""
        if kind not in model.kinds:
            raise Refused(
                Code.MODEL_UNKNOWN, f"{model.name} is not offered for {kind}", field="model"
            )
        _check_sold(kind, document)
        document = sold(kind, document, model.parameters)
        stream = document.get("stream") or False
        if not isinstance(stream, bool):
            raise unfit("stream", "is true or false")
        if stream and kind == "embeddings":
            raise unfit("stream", "embeddings are not streamed")
        pieces, choices = _pieces(kind, document), _choices(kind, document)
        limits = _LIMITS.get(kind, ())
        each = _limit(limits, document, model.max_completion)
        options = document.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise unfit("stream_options", "is an object")
        asked = options is not None and options.get("include_usage") is True
        bound = model.context * pieces
        if is_text(kind, document):
            bound = min(size + model.overhead * pieces, bound)
        return cls(
            kind=kind,
            document=document,
            limit=each * choices * (pieces if kind == "completions" else 1),
            each=each,
            limits=limits,
            prompt_bound=bound,
            stream=stream,
            wants_usage=asked,
        )

    def ceiling(self, model: Model, completion_tokens: int | None = None) -> int:
        """The most that it can cost, or with as many completion tokens."""
        tokens = self.limit if completion_tokens is None else min(completion_tokens, self.limit)
        return model.prices.cost(self.prompt_bound, tokens)

    def answer_bytes(self, size: int) -> int:
        """Bytes that an answer in one piece can have besides its frame, for a request of `size`."""
        body = self.document
        if self.kind == "embeddings":
            given = body.get("input")
            answer = _BYTES_OF_VECTOR * (len(given) if isinstance(given, list) else 1)
        elif any(body.get(name) for name in _LONG):
            answer = _BYTES_OF_LOGPROBS * (self.limit + bool(body.get("echo")) * self.prompt_bound)
        else:
            answer = _BYTES_OF_TOKEN * self.limit
        # Some kinds repeat the request, where a byte may be escaped to six.
        return 6 * size + answer


def parse(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body. Refused."""
    if b"\0" in body:  # UTF-16, or no JSON at all
        raise Refused(Code.BODY_INVALID, "the body is not JSON in UTF-8")
    if _is_too_fine(body):
        raise Refused(
            Code.BODY_INVALID,
            f"the body has more than {_MOST_NODES} fields and lists, or {_MOST_VALUES} values",
        )
    try:
        document = nesting.finite(body)
    except (ValueError, RecursionError):
        raise Refused(Code.BODY_INVALID, "the body is not JSON") from None
    if not isinstance(document, dict):
        raise Refused(Code.BODY_INVALID, "the body is not a JSON object")
    return document


def _is_too_fine(body: bytes) -> bool:
    """Whether a body has too many fields, lists or values, those in texts left out."""
    if not _is_over(body) and body.count(b'"') <= 2 * _MOST_VALUES:
        return False
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    # Each text is a value or a name, so there are no more of them than of both.
    most = 2 * (_MOST_NODES + _MOST_VALUES)
    return bare.count(b'"') > most or _is_over(b"".join(bare.split(b'"')[::2]))


def _is_over(data: bytes) -> bool:
    nodes = data.count(b"[") + data.count(b"{") + data.count(b":")
    return nodes > _MOST_NODES or data.count(b",") > _MOST_VALUES


def _check_sold(kind: str, document: Mapping[str, Any]) -> None:
    for field in _NEVER[kind]:
        if document.get(field) is not None:
            raise unfit(field, "nothing is kept here between requests; send the whole input")
    for field in _UNSOLD[kind]:
        # Servers take other words for true, too.
        if document.get(field) not in (None, False):
            raise unfit(field, "nothing is kept here between requests; leave it out")
    best = document.get("best_of")
    if best not in (None, 1):
        raise unfit("best_of", "answers that nobody sees are not sold; use n")


def _limit(names: tuple[str, ...], document: Mapping[str, Any], most: int) -> int:
    """Tokens of one answer: the least of all limits, as nobody knows which one a server reads."""
    if not names:
        return 0
    for name in names:
        value = document.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise unfit(name, "is a number of tokens, 1 or more")
            most = min(value, most)
    return most


def _choices(kind: str, document: Mapping[str, Any]) -> int:
    value = document.get("n")
    if value is None or kind in ("embeddings", "responses"):
        return 1
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_CHOICES:
        raise unfit("n", f"is a number from 1 to {MOST_CHOICES}")
    return value


def _pieces(kind: str, document: Mapping[str, Any]) -> int:
    """How many prompts there are: a list of texts, or of lists of tokens."""
    field = {"completions": "prompt", "embeddings": "input"}.get(kind)
    value = document.get(field) if field else None
    if not isinstance(value, list) or not value or isinstance(value[0], int):
        return 1
    if len(value) > MOST_PIECES:
        raise unfit(str(field), f"has at most {MOST_PIECES} entries")
    return len(value)
