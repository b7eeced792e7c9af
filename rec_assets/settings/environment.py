"""Reading the settings from environment variables and `.env`, with errors that name the variable."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import get_args

from dotenv import dotenv_values
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from rec_assets.errors import UserError
from rec_assets.settings.settings import Settings


class InvalidSettings(UserError, ValueError):
    """Invalid settings; the message is one line that names each variable and what is wrong with it."""


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        InvalidSettings: a variable has an invalid value, or several contradict each other.
    """
    try:
        return Settings()
    except ValidationError as error:
        messages = []
        for detail in error.errors(include_url=False, include_input=False):
            if detail["type"] == "default_factory_not_called":  # a consequence of another error
                continue
            names = ["REC_" + str(detail["loc"][0]), *map(str, detail["loc"][1:])] if detail["loc"] else []
            prefix = f"{'__'.join(names).upper()}: " if names else ""
            messages.append(prefix + detail["msg"].removeprefix("Value error, "))
        raise InvalidSettings("; ".join(messages)) from None
    except SettingsError as error:
        field = re.search('field "([^"]+)"', str(error))
        raise InvalidSettings(
            f"REC_{field[1].upper()}: must be JSON" if field else f"{error}: it must be JSON"
        ) from None
    except RecursionError:
        raise InvalidSettings("a variable REC_…: its JSON is nested too deeply") from None


def unknown_variables() -> list[str]:
    """A warning for each REC_ variable, of the environment or of `.env`, that is no setting."""
    known, warnings = {*_variables(Settings, "REC_")}, []
    for name in sorted({variable.upper() for variable in (*os.environ, *dotenv_values(".env"))}):
        if name.startswith("REC_") and name not in known and not name.startswith("REC_SPARK_CONF__"):
            near = difflib.get_close_matches(name, sorted(known), n=1)
            warnings.append(f"{name} is no setting and is ignored" + (f": did you mean {near[0]}?" if near else ""))
    return warnings


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name.upper()}"
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _variables(kind, f"{prefix}{name.upper()}__")
