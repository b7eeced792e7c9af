"""Parse a subset of YAML: mappings, lists and text, within limits.

Values stay text: 0123 is not an octal number, and `no` is not false. Duplicate keys, tags (`!!int`), merge keys (`<<`),
keys that are not text and a second document are errors. An alias (`*name`) repeats its anchor (`&name`), within limits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import yaml

MAX_DEPTH = 32
"""Maximum nesting of mappings and lists."""

MAX_CHARACTERS = 1_000_000
"""Maximum of all values and keys. Each use of an alias counts, and each value counts one more."""

_NULLS = ("", "~", "null", "Null", "NULL")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""Characters that YAML doesn't allow, and the byte order mark."""


class UnsupportedYaml(ValueError):
    """The text is not YAML, or uses a feature that is not supported. The message has the position and the reason."""


class Position(NamedTuple):
    """Where a value begins. Line and column count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True)
class Document:
    """Parsed YAML.

    Attributes:
        content: Dicts, lists, strings, and None for a missing value.
        positions: id of a dict or list → its key or index → position.
    """

    content: object
    positions: dict[int, dict[object, Position]]

    def position_of(self, location: Sequence[object]) -> Position | None:
        """Position of a value, or of the nearest value that contains it. Unknown names are skipped."""
        value, position = self.content, None
        for name in location:
            positions = self.positions.get(id(value), {})
            if name in positions:
                position = positions[name]
                value = value[name]  # type: ignore[index]  # it has positions, so it is a dict or a list
        return position


def parse(text: str) -> Document:
    """Parse a text.

    Raises:
        UnsupportedYaml: see the class.
    """
    invalid = _UNPRINTABLE.search(text)
    if invalid:
        before = text[: invalid.start()]
        position = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise UnsupportedYaml(f"{position}: YAML doesn't allow the character U+{ord(invalid[0]):04X}: remove it")
    try:
        return _Parser(text).document()
    except yaml.MarkedYAMLError as problem:
        raise UnsupportedYaml(_describe(problem, text)) from None
    except yaml.YAMLError as problem:
        raise UnsupportedYaml(" ".join(str(problem).split())) from None


def _describe(problem: yaml.MarkedYAMLError, text: str) -> str:
    mark = problem.problem_mark or problem.context_mark
    reason = " ".join(filter(None, (problem.context, problem.problem)))
    if mark is None:
        return reason
    line = [*text.split("\n"), ""][min(mark.line, text.count("\n"))]
    hint = ": indent with spaces, not with tabs" if line[mark.column : mark.column + 1] == "\t" else ""
    return f"{Position(mark.line + 1, mark.column + 1)}: {reason}{hint}"


class _Parser:
    """Builds a document from the events of the C parser."""

    def __init__(self, text: str) -> None:
        # Python's own parser takes seconds for a few hundred kilobytes. Events come one by one, so that a document
        # that is too deep or too large is an error before it is read completely.
        self._events = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._positions: dict[int, dict[object, Position]] = {}
        self._anchors: dict[str, tuple[object, int, int]] = {}
        """Anchor → its value, number of characters and height."""
        self._characters = 0

    def document(self) -> Document:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return Document(None, {})
        content, _ = self._value(next(self._events), 0)
        next(self._events)  # the document ends
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            _fail(event, "a second document begins here: a file has only one, so remove the line `---`")
        return Document(content, self._positions)

    def _value(self, event: yaml.Event, depth: int) -> tuple[object, int]:
        """The value that begins with an event, and its height (levels of nesting; 0 for text)."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        assert isinstance(event, yaml.NodeEvent)
        tag = getattr(event, "tag", None)
        if tag is not None:
            written = tag.replace("tag:yaml.org,2002:", "!!")
            _fail(event, f"tags such as {written} are not supported: write only the value, in quotes if necessary")
        before, height = self._characters, 0
        self._count(event, 1)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            self._count(event, len(event.value))
            value = _text(event)
        else:
            if depth == MAX_DEPTH:
                _fail(event, f"mappings and lists are nested more than {MAX_DEPTH} levels deep")
            value, height = self._mapping(depth) if isinstance(event, yaml.MappingStartEvent) else self._list(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._characters - before, height
        return value, height

    def _mapping(self, depth: int) -> tuple[dict[str, object], int]:
        values: dict[str, object] = {}
        positions: dict[object, Position] = {}
        height = 0
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            if key in values:
                _fail(event, f"duplicate key {key}, first at {positions[key]}: remove one")
            positions[key] = _position(event)
            values[key], below = self._value(next(self._events), depth + 1)
            height = max(height, below)
        self._positions[id(values)] = positions
        return values, height + 1

    def _list(self, depth: int) -> tuple[list[object], int]:
        values: list[object] = []
        positions: dict[object, Position] = {}
        height = 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            positions[len(values)] = _position(event)
            value, below = self._value(event, depth + 1)
            values.append(value)
            height = max(height, below)
        self._positions[id(values)] = positions
        return values, height + 1

    def _key(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            _fail(event, "a key must be text")
        if event.value == "<<" and event.implicit[0]:
            _fail(event, "merge keys (<<) are not supported: write all fields")
        if event.value == "" and event.implicit[0]:
            _fail(event, "this value has no key")
        key, _ = self._value(event, 0)
        return event.value if key is None else str(key)  # `null` is a normal key

    def _alias(self, event: yaml.AliasEvent, depth: int) -> tuple[object, int]:
        if event.anchor not in self._anchors:
            _fail(event, f"the alias *{event.anchor} has no complete anchor &{event.anchor} above it")
        value, characters, height = self._anchors[event.anchor]
        if depth + height > MAX_DEPTH:
            _fail(event, f"with *{event.anchor}, mappings and lists are nested more than {MAX_DEPTH} levels deep")
        self._count(event, characters)
        return value, height

    def _count(self, event: yaml.Event, characters: int) -> None:
        self._characters += characters
        if self._characters > MAX_CHARACTERS:
            _fail(event, f"the file has more than {MAX_CHARACTERS:,} characters, with repeated aliases (*)")


def _text(event: yaml.ScalarEvent) -> str | None:
    text: str = event.value
    if "\0" in text:
        _fail(event, r"a value can't have the null character (\0)")
    return None if event.implicit[0] and text in _NULLS else text


def _position(event: yaml.Event) -> Position:
    mark = event.start_mark
    assert mark is not None  # only events created by hand have none
    return Position(mark.line + 1, mark.column + 1)


def _fail(event: yaml.Event, reason: str) -> NoReturn:
    raise UnsupportedYaml(f"{_position(event)}: {reason}")
