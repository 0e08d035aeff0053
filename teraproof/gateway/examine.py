# SPDX-License-Identifier: Apache-2.0
"""What answers show of the hosts behind them: schemas and tool calls that hold, and the model.

The arithmetic is in `gateway.identity`. Here answers are read, and each model's hosts are kept.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import Draft202012Validator

from teraproof import nesting
from teraproof.gateway import bodies
from teraproof.gateway.identity import Answer, Counter, Lineup, Verdict, read_logprobs
from teraproof.gateway.identity.lineup import RATE
from teraproof.protocol.inference import Receipt

_MODELS = 4_096  # of which evidence is kept; that of a fault goes last
_MOST_TEXT = 256 << 10  # characters of an answer that are looked at
_MOST_SCHEMA = 16 << 10  # bytes of a schema that answers are held against
_MOST_CALLS = 64
# Keywords that can make a check take without end, or leave this machine.
_COSTLY = (
    '"pattern"',
    '"patternProperties"',
    '"$ref"',
    '"$dynamicRef"',
    '"uniqueItems"',
    '"unevaluatedItems"',
    '"unevaluatedProperties"',
)


class Lineups:
    """The hosts of each model side by side. For one thread."""

    def __init__(
        self,
        trusted: Sequence[str] = (),
        rate: float = RATE,
        counters: Mapping[str, Counter] | None = None,
    ) -> None:
        self._trusted, self._rate = tuple(trusted), rate
        #: The tokenizers of models, by their names.
        self.counters = counters or {}
        self._lineups: OrderedDict[str, Lineup] = OrderedDict()

    def of(self, model: str) -> Lineup:
        """The hosts of a model, of which something is to be kept."""
        found = self._lineups[model] = self.seen(model)
        self._lineups.move_to_end(model)
        while len(self._lineups) > _MODELS:
            quiet = (name for name, each in self._lineups.items() if not each.alarms)
            del self._lineups[next(quiet, next(iter(self._lineups)))]
        return found

    def seen(self, model: str) -> Lineup:
        """The same, where nothing changes by the question: hosts name as many models as they like,
        and lists of them are read.
        """
        found = self._lineups.get(model)
        if found is None:
            found = Lineup(self._trusted, counter=self.counters.get(model), rate=self._rate)
        return found

    def share(self, owner: str, model: str) -> float:
        """The share of a host's answers that are expected to be as they should; 0 with a fault."""
        return self.seen(model).score(owner)

    def verdict(self, owner: str, model: str) -> Verdict:
        """What is known of a host."""
        return self.seen(model).verdict(owner)


def read(
    ask: Mapping[str, Any],
    data: Sequence[bytes],
    receipt: Receipt,
    tokens: int,
    *,
    streams: bool,
    partial: bool = False,
) -> Answer | None:
    """An answer as it is compared; None where it has no single choice to look at.

    `data` is the body, or the data of a stream's events; `partial`: only its beginning. `tokens`
    are the most that were allowed.
    """
    found = _streamed(data) if streams else _single(data)
    if found is None:
        return None
    text, finish, calls, logprobs, whole = found
    # What was charged for and is not here must not look like too much.
    whole = whole and not calls and not partial and len(text) <= _MOST_TEXT
    whole = whole and ask.get("best_of") in (None, 1)
    return Answer(
        text=text[:_MOST_TEXT],
        finish=finish,
        prompt_tokens=receipt.prompt_tokens,
        completion_tokens=receipt.completion_tokens,
        asked=tokens,
        greedy=ask.get("temperature") == 0 or ask.get("top_k") == 1,
        whole=whole,
        fingerprint=read_logprobs(logprobs) if logprobs else None,
        valid=None if partial else is_valid(ask, text, calls, finish),
        hidden=_stop(ask),
    )


def _stop(ask: Mapping[str, Any]) -> str:
    """The longest text that ends an answer and is left out of it."""
    said = ask.get("stop")
    texts = [said] if isinstance(said, str) else _list(said)
    return max((one for one in texts if isinstance(one, str)), key=len, default="")


_Read = tuple[str, str | None, list[tuple[str, str]], list[Any], bool]


def _single(data: Sequence[bytes]) -> _Read | None:
    document = bodies.document(data[0]) if data else None
    choices = None if document is None else document.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        text = choice.get("text")
        return (text, _finish(choice), [], [], True) if isinstance(text, str) else None
    content = message.get("content")
    calls = [
        (str(call["function"].get("name")), str(call["function"].get("arguments")))
        for call in _list(message.get("tool_calls"))[:_MOST_CALLS]
        if isinstance(call, dict) and isinstance(call.get("function"), dict)
    ]
    whole = not (message.get("reasoning_content") or message.get("reasoning"))
    text = content if isinstance(content, str) else ""
    return text, _finish(choice), calls, _logprobs(choice), whole


def _streamed(data: Sequence[bytes]) -> _Read | None:
    texts: list[str] = []
    calls: dict[int, list[str]] = {}
    logprobs: list[Any] = []
    finish, whole, seen = None, True, False
    for each in data:
        document = bodies.document(each)
        for choice in _list(None if document is None else document.get("choices")):
            if not isinstance(choice, dict):
                return None
            if choice.get("index", 0) != 0:
                return None
            seen = True
            finish = _finish(choice) or finish
            logprobs += _logprobs(choice)
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                texts.append(_text(choice.get("text")))
                continue
            texts.append(_text(delta.get("content")))
            whole = whole and not (delta.get("reasoning_content") or delta.get("reasoning"))
            for call in _list(delta.get("tool_calls"))[:_MOST_CALLS]:
                _add_call(calls, call)
    if not seen:
        return None
    return "".join(texts), finish, [(n, a) for n, a in calls.values()], logprobs, whole


def _add_call(calls: dict[int, list[str]], call: object) -> None:
    function = call.get("function") if isinstance(call, dict) else None
    number = call.get("index", 0) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(number, int) or len(calls) > _MOST_CALLS:
        return
    kept = calls.setdefault(number, ["", ""])
    kept[0] += _text(function.get("name"))
    kept[1] += _text(function.get("arguments"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _finish(choice: Mapping[str, Any]) -> str | None:
    found = choice.get("finish_reason")
    return found if isinstance(found, str) else None


def _logprobs(choice: Mapping[str, Any]) -> list[Any]:
    found = choice.get("logprobs")
    return _list(found.get("content")) if isinstance(found, dict) else []


# ---------------------------------------------------------------------- schemas and tool calls


def is_valid(
    ask: Mapping[str, Any],
    text: str,
    calls: Sequence[tuple[str, str]],
    finish: str | None,
) -> bool | None:
    """Whether an answer keeps to the schema or the tools of its request; None where there are none,
    or where its length was cut, for which the request is to blame.
    """
    if finish == "length":
        return None
    if calls:
        tools = _tools(ask)
        return all(name in tools and _holds(tools[name], said) for name, said in calls)
    wanted = ask.get("response_format")
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return bodies.document(text.encode()) is not None
    if wanted.get("type") != "json_schema":
        return None
    named = wanted.get("json_schema")
    return _holds(named.get("schema") if isinstance(named, dict) else None, text)


def _tools(ask: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for tool in _list(ask.get("tools")):
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            found[function["name"]] = function.get("parameters")
    return found


def _holds(schema: object, text: str) -> bool:
    """Whether a text is JSON that keeps to a schema. What is costly to check counts as kept."""
    try:
        value = nesting.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(schema, dict):
        return True
    written = json.dumps(schema)
    if len(written) > _MOST_SCHEMA or any(word in written for word in _COSTLY):
        return True
    try:
        jsonschema.validate(value, schema, cls=Draft202012Validator)
    except ValidationError:
        return False
    except (SchemaError, RecursionError):
        return True  # the request's own fault
    except (ArithmeticError, ValueError):
        return True  # a number that Python cannot reckon with, such as 1e999
    return True
