"""Reference pages, generated from the code: settings, assets and tables, jobs, command line, API."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
from dagster import AssetKey, Definitions, ScheduleDefinition, SensorDefinition
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rec_assets.resources.table_columns import TABLES
from rec_assets.settings import Settings


def generated_pages() -> dict[str, str]:
    """Name of each generated page below `docs/`, with its Markdown text."""
    from rec_assets.definitions import build_definitions

    with tempfile.TemporaryDirectory() as home:
        definitions = build_definitions(Settings(home=Path(home), _env_file=None))
        return {
            "reference/settings.md": settings_page(),
            "reference/assets.md": assets_page(definitions),
            "reference/jobs.md": jobs_page(definitions),
            "reference/cli.md": cli_page(),
            "reference/api.md": api_page(Settings(home=Path(home), _env_file=None)),
        }


def _table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(columns), ["---"] * len(list(columns)), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return str("" if value is None else value).replace("|", "\\|").replace("\n", " ").strip()


def _code(value: object) -> str:
    return f"`{value}`" if str(value) else ""


# ---- settings ----


def settings_page() -> str:
    """Every setting: variable, type, default, meaning."""
    sections: dict[str, list[list[str]]] = {}
    about: dict[str, str] = {}
    for prefix, model, name, field in _fields(Settings, "REC_"):
        heading = "General" if prefix == "REC_" else f"{prefix}…"
        about[heading] = (model.__doc__ or "").strip().splitlines()[0] if prefix != "REC_" else ""
        sections.setdefault(heading, []).append(
            [_code(prefix + name.upper()), _type(field.annotation), _default(field), field.description or ""]
        )
    text = (
        "# Settings\n\nFor everyone who configures rec_assets. After reading, you can set every option.\n\n"
        "Set them as environment variables or in a file `.env` in the folder where you run the command. Lists and "
        "mappings are JSON. If a `REC_…` variable is not a setting, commands print a warning with the nearest name.\n"
    )
    for heading, rows in sections.items():
        text += f"\n## {heading}\n\n{about[heading]}\n\n" + _table(["variable", "type", "default", "meaning"], rows)
    return text


def setting_variables() -> list[str]:
    """Names of all environment variables that hold one value."""
    return [prefix + name.upper() for prefix, _, name, _ in _fields(Settings, "REC_")]


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel], str, FieldInfo]]:
    nested = []
    for name, field in model.model_fields.items():
        parts = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)]
        if parts:
            nested += [(kind, f"{prefix}{name.upper()}__") for kind in parts]
        else:
            yield prefix, model, name, field
    for kind, longer in nested:
        yield from _fields(kind, longer)


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _type(annotation: Any) -> str:
    name = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    for long, short in (("pathlib.Path", "Path"), ("typing.", ""), ("NoneType", "None"), ("pydantic.types.", ""),
                        ("upath.core.", ""), ("upath.", "")):  # fmt: skip
        name = name.replace(long, short)
    return _code(name.replace("pathlib._local.", ""))


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "see the meaning" if field.default_factory else "required"
    if field.default is None or isinstance(field.default, SecretStr):
        return "–"
    return _code(field.default)


# ---- assets, jobs, schedules, sensors ----


def assets_page(definitions: Definitions) -> str:
    """Every asset by group: description, partitions, upstream assets, checks."""
    graph = definitions.resolve_asset_graph()
    text = (
        "# Assets\n\nFor everyone who reads the lineage graph. After reading, you know what each asset contains and "
        "from which assets it is made.\n\n"
        "Each asset is a table of the lake with the same name; [Tables](../tables.md) has their columns. A daily asset "
        "has one partition for each as-of day.\n"
    )
    groups: dict[str, list[AssetKey]] = {}
    for key in (key for assets in definitions.assets or () for key in assets.keys):  # in the order of the pipeline
        groups.setdefault(graph.get(key).group_name, []).append(key)
    for group, keys in groups.items():
        text += f"\n## Group {group}\n"
        for key in keys:
            node = graph.get(key)
            checks = [check.name for check in sorted(graph.asset_check_keys) if check.asset_key == key]
            upstream = [parent.to_user_string() for parent in sorted(node.parent_keys) if parent != key]
            facts = [
                f"Partitions: {'daily' if node.partitions_def else 'none'}.",
                f"Made from: {', '.join(map(_code, upstream)) or 'files outside the graph'}.",
                f"Checks: {', '.join(map(_code, checks))}." if checks else "",
            ]
            text += f"\n### {key.to_user_string()}\n\n{node.description or ''}\n\n" + "\n".join(
                f"- {fact}" for fact in facts if fact
            )
            text += "\n"
    return text


TABLES_PAGE = Path(__file__).parent / "tables.md"
COLUMNS_HEADING = "## Columns of each table\n"
"""The rest of TABLES_PAGE is generated."""


def tables_page() -> str:
    """The page on tables, with the columns of each: name, type in Spark SQL, description."""
    text, _, _ = TABLES_PAGE.read_text(encoding="utf-8").partition(COLUMNS_HEADING)
    text += COLUMNS_HEADING + "\nTypes are those of Spark SQL. `make docs` generates this list from the code.\n"
    for table, columns in TABLES.items():
        rows = [[_code(name), type_, meaning] for name, (type_, meaning) in columns.items()]
        text += f"\n### {table}\n\n" + _table(["column", "type", "meaning"], rows)
    return text


def jobs_page(definitions: Definitions) -> str:
    """Every job, schedule and sensor."""
    repository = definitions.get_repository_def()
    jobs = [job for job in sorted(repository.get_all_jobs(), key=lambda job: job.name) if not job.name.startswith("__")]
    rows = []
    for job in jobs:
        made = sorted(key.to_user_string() for key in job.asset_layer.selected_asset_keys)
        rows.append([_code(job.name), job.description, ", ".join(map(_code, made))])
    schedules: list[ScheduleDefinition] = sorted(repository.schedule_defs, key=lambda schedule: schedule.name)
    sensors: list[SensorDefinition] = sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
    return (
        "# Jobs, schedules and sensors\n\nFor everyone who runs the pipeline. After reading, you know what each job "
        "makes and what starts it. [Operations](../operations.md) explains how they work together.\n\n## Jobs\n\n"
        + _table(["job", "description", "assets"], rows)
        + "\n## Schedules\n\nAll schedules are off until you turn them on. The cron lines and the time zone are "
        "[settings](settings.md).\n\n"
        + _table(
            ["schedule", "job", "default time", "description"],
            ([_code(s.name), _code(s.job_name), _code(s.cron_schedule), s.description] for s in schedules),
        )
        + "\n## Sensors\n\nAll sensors are off until you turn them on.\n\n"
        + _table(
            ["sensor", "job", "description"],
            ([_code(s.name), ", ".join(_code(t.job_name) for t in s.targets), s.description] for s in sensors),
        )
    )


# ---- command line ----


def cli_page() -> str:
    """The help of `rec-assets` and of every subcommand."""
    from rec_assets.cli import cli

    text = (
        "# Command line\n\nFor everyone who works in a terminal. After reading, you know every command with its "
        "arguments and options.\n"
    )
    for name, command in _commands(cli, "rec-assets"):
        with click.Context(command, info_name=name, terminal_width=100) as context:
            text += f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"
    return text


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for short, inner in sorted(command.commands.items()):
            yield from _commands(inner, f"{name} {short}")


# ---- API ----


def api_page(settings: Settings) -> str:
    """Every call with its parameters, and every schema with its fields."""
    from rec_assets.serving.api import create_app

    spec = create_app(settings).openapi()
    text = (
        "# API\n\nFor everyone who writes a client. After reading, you know every call, its fields and its errors. "
        "[The API](../serving.md) explains how to use them. A running server has the same reference at `/docs`.\n\n"
        "## Calls\n"
    )
    for path, methods in spec["paths"].items():
        for method, call in methods.items():
            text += f"\n### {method.upper()} {path}\n\n{call.get('description') or call.get('summary', '')}\n\n"
            parameters = call.get("parameters", [])
            if parameters:
                rows = [
                    [_code(p["name"]), p["in"], _schema(p["schema"]), "yes" if p.get("required") else "",
                     p.get("description") or p["schema"].get("description", "")]
                    for p in parameters
                ]  # fmt: skip
                text += _table(["parameter", "in", "type", "required", "meaning"], rows) + "\n"
            if body := call.get("requestBody"):
                text += f"Body: {_content(body)}\n\n"
            text += _table(
                ["status", "response", "meaning"],
                (
                    [code, _content(response), response.get("description")]
                    for code, response in call["responses"].items()
                ),
            )
    text += "\n## Schemas\n"
    for name, schema in sorted(spec["components"]["schemas"].items()):
        rows = [
            [_code(field), _schema(about), "yes" if field in schema.get("required", []) else "",
             about.get("description", "")]
            for field, about in schema.get("properties", {}).items()
        ]  # fmt: skip
        text += f"\n### {name}\n\n{schema.get('description', '')}\n\n"
        text += _table(["field", "type", "required", "meaning"], rows) if rows else ""
    return text


def _content(part: Mapping[str, Any]) -> str:
    return ", ".join(_schema(about.get("schema", {})) or f"`{kind}`" for kind, about in part.get("content", {}).items())


LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "maxLength": "length ≤"}


def _schema(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words."""
    default = f"default `{schema['default']}`" if schema.get("default") not in (None, [], {}) else ""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(_schema(option) for option in schema[choice])
    if "const" in schema:
        return _code(schema["const"])
    if isinstance(schema.get("additionalProperties"), dict):
        return f"mapping to {_schema(schema['additionalProperties'])}"
    if "enum" in schema:
        kind = " or ".join(_code(value) for value in schema["enum"])
    elif schema.get("type") == "array":
        kind = f"list of {_schema(schema['items'])}"
    else:
        kind = schema.get("format") or schema.get("type", "")
    limits = [f"{sign} {schema[name]:,.12g}" for name, sign in LIMITS.items() if name in schema]
    return ", ".join(filter(None, [kind, *limits, default]))
