# SPDX-License-Identifier: Apache-2.0
"""The agent's settings: one TOML file, overridden by the environment. Nothing else reads either.

A variable `TERAPROOF_<SECTION>__<FIELD>` (`TERAPROOF_API__PORT=8800`) replaces a field of the file.
Relative paths count from the directory of the file. Each module brings a section of its own.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError, create_model

from provider_agent.core.module import Module
from provider_agent.core.settings import Section, Settings
from provider_agent.errors import SettingsError
from provider_agent.modules.all import MODULES
from teraproof import settings_faults

PREFIX = "TERAPROOF_"
_AnySection = TypeVar("_AnySection", bound=Section)


def compose(modules: Sequence[type[Module]]) -> type[Settings]:
    """The settings of an agent with these modules."""
    sections: dict[str, Any] = {
        module.section: (module.settings, module.settings())
        for module in modules
        if module.settings is not None
    }
    return create_model("Settings", __base__=Settings, __doc__=Settings.__doc__, **sections)


#: The settings of an agent with every module.
EVERYTHING = compose(MODULES)


def validate(document: Mapping[str, Any], kind: type[Settings] = EVERYTHING) -> Settings:
    """Settings from plain values. Raises pydantic's ValidationError."""
    return kind.model_validate(document)


def load(
    file: Path, environ: Mapping[str, str] = os.environ, kind: type[Settings] = EVERYTHING
) -> Settings:
    """Read a settings file and the overrides. SettingsError is one line that names the field."""
    document = _read(file)
    _override(document, environ, kind)
    try:
        settings = validate(document, kind)
    except ValidationError as error:
        raise SettingsError(f"{file}: {settings_faults.in_one_line(error)}") from None
    return _resolved(settings, file.absolute().parent)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(
            f"cannot read {file}: {error.strerror}; make one with: provider-agent init"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}") from None


def _override(document: dict[str, Any], environ: Mapping[str, str], kind: type[Settings]) -> None:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        section, _, field = name.removeprefix(PREFIX).lower().partition("__")
        known = kind.model_fields.get(section)
        if known is None or field not in known.annotation.model_fields:  # type: ignore[union-attr]  # sections are models
            raise SettingsError(f"{name}: there is no setting {section}.{field}; unset it")
        part = document.setdefault(section, {})
        if not isinstance(part, dict):
            raise SettingsError(f"{section}: expected a table of settings")
        try:
            part[field] = environ[name]
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from None


def _resolved(settings: Settings, base: Path) -> Settings:
    """The settings with absolute paths."""

    def absolute(value: Any) -> Any:
        if isinstance(value, Path):
            return base / value.expanduser()
        if isinstance(value, dict):
            return {name: absolute(item) for name, item in value.items()}
        if isinstance(value, Section):
            return within(value)
        return value

    def within(section: _AnySection) -> _AnySection:
        return section.model_copy(update={name: absolute(value) for name, value in section})

    return settings.model_copy(update={name: within(section) for name, section in settings})
