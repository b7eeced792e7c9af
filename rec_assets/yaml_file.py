"""Our YAML files as pydantic models, with errors in words that name the file, the field and what it could be."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""What people call a part of a file, such as an experiment or a rule: it stands in tables and columns."""


class _TextLoader(yaml.SafeLoader):
    """YAML whose values stay the text that stands there: 0123 is no octal number and `no` not false."""


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(
    path: Path,
    model: type[M],
    what: str,
    *,
    defaults: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    error: type[ValueError] = ValueError,
) -> M:
    """Read a file.

    Args:
        path: Of the file.
        model: What it holds.
        what: The same in words, as "a source is a mapping of fields such as `purchases:`".
        defaults: Fields, where the file doesn't say them.
        given: Fields that the file can't say.
        error: What to raise.

    Raises:
        error: no YAML, or a field that is missing, unknown or of a wrong kind.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_TextLoader)
    except OSError as problem:
        raise error(f"{path}: {problem.strerror or problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise error(f"{path}: not readable as YAML: {problem}") from problem
    if not isinstance(content, dict):
        found = "nothing" if content is None else "a list" if isinstance(content, list) else "a text"
        raise error(f"{path}: {what}, and here stands {found}")
    fields = {**(defaults or {}), **content, **(given or {})}
    try:
        return model.model_validate(_without_nulls(fields))
    except ValidationError as problem:
        raise error(f"{path}: " + "; ".join(_in_words(each, model) for each in problem.errors())) from None


def _without_nulls(value: object) -> object:
    """A field without a value counts as not given."""
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return value


def _in_words(problem: ErrorDetails, model: type[BaseModel]) -> str:
    location = [str(name) for name in problem["loc"]]
    field = ".".join(location)
    if problem["type"] == "missing":
        return f"{field} is missing"
    if problem["type"] == "extra_forbidden":
        known = [name for name, about in _part_at(location[:-1], model).model_fields.items() if not about.exclude]
        near = difflib.get_close_matches(location[-1], known, n=1)
        return f"there is no field {field}; " + (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        )
    return f"{field}: " * bool(field) + problem["msg"].removeprefix("Value error, ")


def _part_at(location: list[str], whole: type[BaseModel]) -> type[BaseModel]:
    """The model of the part of the file that a location leads to."""
    parts = [whole]
    for name in location:
        holder = next((part for part in parts if name in part.model_fields), None)
        if holder is not None:
            parts = _models_in(holder.model_fields[name].annotation) or parts
        else:  # the name of an entry in a mapping, a place in a list, or what kind of part it is
            parts = [part for part in parts if name in _tags(part)] or parts
    return parts[0]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _tags(part: type[BaseModel]) -> tuple[str, ...]:
    """What `kind` says of such a part, where parts are told apart by it."""
    return get_args(part.model_fields["kind"].annotation) if "kind" in part.model_fields else ()
