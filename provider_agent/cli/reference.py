# SPDX-License-Identifier: Apache-2.0
"""`provider-agent settings`: every setting, read from the code that checks it."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from provider_agent.core.settings import Address, Network, PublicUrl, Unit, Url
from provider_agent.errors import SettingsError
from provider_agent.settings import EVERYTHING, PREFIX

# The ending of a name is its unit, but for the numbers that carry a `Unit`.
_ENDINGS = {
    "_seconds": "seconds",
    "_hours": "hours",
    "_mb": "MiB",
    "_gb": "GiB",
    "_bytes": "bytes",
    "_gwei": "gwei",
}
_WORDS: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    Decimal: "amount",
    bool: "true or false",
    Path: "path",
    # These are text with a check of its own.
    Address: "address",
    Network: "address or network",
    PublicUrl: "URL",
    Url: "URL",
}
_REQUIRED = "required"


@dataclass(frozen=True)
class Setting:
    """One setting as a person should know it; all of it text."""

    name: str
    """Section and field: `chain.poll_seconds`."""
    type: str
    """What its value is, with its bounds."""
    default: str
    """As it would stand in the file; `required`, or `none` for one that may be left out."""
    unit: str
    """What a number counts; empty for what is not a measure."""
    meaning: str
    """One or more sentences."""

    @property
    def variable(self) -> str:
        """The variable of the environment that overrides it, or the table that it stands in."""
        return PREFIX + "__".join(self.name.split(".")[:2]).upper()


@dataclass(frozen=True)
class Section:
    """A table of the settings file."""

    name: str
    meaning: str
    settings: tuple[Setting, ...]


def sections(root: type[BaseModel] = EVERYTHING) -> list[Section]:
    """Every section of `root` with its settings, in the order of the source."""
    return [
        Section(
            name,
            _line(inspect.getdoc(section) or ""),
            tuple(_setting(name, field, info) for field, info in section.model_fields.items()),
        )
        for name, section in _models(root)
    ]


def _models(root: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, info in root.model_fields.items():
        section = next(part for part in _parts(info.annotation) if _is_model(part))
        yield name, section
        for field, inner in section.model_fields.items():
            if get_origin(inner.annotation) is dict:
                kind = get_args(inner.annotation)[1]
                if _is_model(kind):
                    yield f"{name}.{field}.NAME", kind


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _setting(section: str, name: str, info: FieldInfo) -> Setting:
    return Setting(
        name=f"{section}.{name}",
        type=", ".join(filter(None, (_type(_declared(info)), _bounds(info.metadata)))),
        default=_REQUIRED
        if info.is_required()
        else _value(info.get_default(call_default_factory=True)),
        unit=_unit(name, info.metadata),
        meaning=_line(info.description or ""),
    )


def _declared(info: FieldInfo) -> Any:
    """The annotation with the checks that pydantic took out of it, so that its name is known."""
    checks = tuple(item for item in info.metadata if not isinstance(item, Unit))
    if checks and info.annotation is str:
        return Annotated[str, *checks]
    return info.annotation


def _type(annotation: Any) -> str:
    """What a value is, in words."""
    for known, word in _WORDS.items():
        if annotation == known:
            return word
    if _is_model(annotation):
        return "table"
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of: {_type(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        key, value = get_args(annotation)
        return f"table of: {_type(key)} = {_type(value)}"
    parts = [part for part in _parts(annotation) if part is not types.NoneType]
    if len(parts) == 1 and parts[0] != annotation:
        return _type(parts[0])
    raise TypeError(f"no words for {annotation}; add them to provider_agent/cli/reference.py")


def _parts(annotation: Any) -> tuple[Any, ...]:
    union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if union else (annotation,)


def _bounds(metadata: list[Any]) -> str:
    """What a value must keep to: `1 to 256`, `above 0, at most 600`, `2 or more`."""
    least = most = fewest = ""
    for item in metadata:
        if isinstance(item, annotated_types.Ge):
            least = f"{item.ge:,}"
        elif isinstance(item, annotated_types.Gt):
            least = f"above {item.gt:,}"
        elif isinstance(item, annotated_types.Le):
            most = f"{item.le:,}"
        elif isinstance(item, annotated_types.Lt):
            most = f"below {item.lt:,}"
        elif isinstance(item, annotated_types.MinLen):
            fewest = f"{item.min_length} or more"
    if least.isascii() and least[:1].isdigit() and most[:1].isdigit():
        return f"{least} to {most}"
    ends = (
        f"{least} or more" if least[:1].isdigit() else least,
        f"at most {most}" if most[:1].isdigit() else most,
    )
    return ", ".join(filter(None, (fewest, *ends)))


def _unit(name: str, metadata: list[Any]) -> str:
    for item in metadata:
        if isinstance(item, Unit):
            return item.name
    return next((unit for ending, unit in _ENDINGS.items() if name.endswith(ending)), "")


def _value(value: Any) -> str:
    """A default, as it would stand in the settings file."""
    if value is None:
        return "none"
    if isinstance(value, Decimal | Path):
        return json.dumps(str(value))
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def _line(text: str) -> str:
    return " ".join(text.split())


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, for programs.")
@click.argument("names", nargs=-1)
def settings(as_json: bool, names: tuple[str, ...]) -> None:
    """List every setting: type, default, unit, variable and meaning.

    NAMES are parts of names, such as `chain` or `seconds`; without any all are listed.
    """
    found = [
        (section, [one for one in section.settings if not names or _wanted(one, names)])
        for section in sections()
    ]
    if not any(chosen for _, chosen in found):
        raise SettingsError("no setting has that in its name; run the command without names")
    if as_json:
        rows = [{**asdict(one), "variable": one.variable} for _, chosen in found for one in chosen]
        click.echo(json.dumps(rows, indent=2))
        return
    for section, chosen in found:
        if not chosen:
            continue
        click.secho(f"[{section.name}]  {section.meaning}", bold=True)
        for one in chosen:
            unit = f", in {one.unit}" if one.unit else ""
            click.echo(f"  {one.name.rpartition('.')[2]} = {one.default}")
            click.echo(f"      {one.type.replace('`', '')}{unit}; {one.variable}")
            click.echo(click.wrap_text(one.meaning.replace("`", ""), 92, "      ", "      "))
        click.echo()


def _wanted(one: Setting, names: tuple[str, ...]) -> bool:
    return any(name.lower() in one.name for name in names)
