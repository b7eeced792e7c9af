"""YAML reduced to what our files need: mappings, lists and text, without surprises and within limits.

Values stay the text that stands there: 0123 is no octal number and `no` not false. Refused are a key that stands
twice, tags (`!!int`), merge keys (`<<`), keys that are no text, and a second document. An alias (`*name`) repeats what
its anchor (`&name`) marks, as long as the whole stays small.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import yaml

DEEPEST = 32
"""Mappings and lists within one another."""

MOST_CHARACTERS = 1_000_000
"""Of all values and keys, each time an alias repeats them; each value counts one more."""

_NULLS = ("", "~", "null", "Null", "NULL")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What YAML doesn't allow, and the byte order mark."""


class NotPlain(ValueError):
    """The text is no YAML, or more than plain YAML; the message says where and why."""


class Place(NamedTuple):
    """Where something begins; both count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True)
class Document:
    """What a file says.

    Attributes:
        content: Dicts, lists, texts, and None where no value is given.
        places: id of a dict or list → its key or index → where that begins.
    """

    content: object
    places: dict[int, dict[object, Place]]

    def place_of(self, location: Sequence[object]) -> Place | None:
        """Where a value begins, or what is nearest around it; names that lead nowhere are passed over."""
        at, found = self.content, None
        for name in location:
            places = self.places.get(id(at), {})
            if name in places:
                found = places[name]
                at = at[name]  # type: ignore[index]  # it has places, so it is a dict or a list
        return found


def parse(text: str) -> Document:
    """Read a text.

    Raises:
        NotPlain: it is no YAML, or more than is taken.
    """
    strange = _UNPRINTABLE.search(text)
    if strange:
        before = text[: strange.start()]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise NotPlain(f"{place}: the character U+{ord(strange[0]):04X} can't stand in YAML: take it out")
    try:
        return _Parser(text).document()
    except yaml.MarkedYAMLError as problem:
        raise NotPlain(_in_words(problem, text)) from None
    except yaml.YAMLError as problem:
        raise NotPlain(" ".join(str(problem).split())) from None


def _in_words(problem: yaml.MarkedYAMLError, text: str) -> str:
    mark = problem.problem_mark or problem.context_mark
    why = " ".join(each for each in (problem.context, problem.problem) if each)
    if mark is None:
        return why
    line = [*text.split("\n"), ""][min(mark.line, text.count("\n"))]
    hint = ": indent with spaces, not with tabs" if line[mark.column : mark.column + 1] == "\t" else ""
    return f"{Place(mark.line + 1, mark.column + 1)}: {why}{hint}"


class _Parser:
    """One text on its way to a document."""

    def __init__(self, text: str) -> None:
        # The C parser: the one in Python takes seconds for a few hundred kilobytes. Its events come one by one, so that
        # what is too deep or too much is refused before it is read to its end.
        self._events = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._places: dict[int, dict[object, Place]] = {}
        self._anchors: dict[str, tuple[object, int, int]] = {}
        """Anchor → what it marks, its characters and its height."""
        self._characters = 0

    def document(self) -> Document:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return Document(None, {})
        content, _ = self._value(next(self._events), 0)
        next(self._events)  # the document ends
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            _refuse(event, "a second document begins here: a file holds one, so take the line `---` out")
        return Document(content, self._places)

    def _value(self, event: yaml.Event, depth: int) -> tuple[object, int]:
        """The value that begins with an event, and its height: 0 of a text."""
        if isinstance(event, yaml.AliasEvent):
            return self._repeated(event, depth)
        assert isinstance(event, yaml.NodeEvent)
        tag = getattr(event, "tag", None)
        if tag is not None:
            written = tag.replace("tag:yaml.org,2002:", "!!")
            _refuse(event, f"tags such as {written} aren't taken: write the value alone, in quotes if need be")
        before, height = self._characters, 0
        self._count(event, 1)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            self._count(event, len(event.value))
            value = _text(event)
        else:
            if depth == DEEPEST:
                _refuse(event, f"more than {DEEPEST} mappings and lists stand within one another")
            value, height = self._mapping(depth) if isinstance(event, yaml.MappingStartEvent) else self._list(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._characters - before, height
        return value, height

    def _mapping(self, depth: int) -> tuple[dict[str, object], int]:
        found: dict[str, object] = {}
        places: dict[object, Place] = {}
        height = 0
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            if key in found:
                _refuse(event, f"{key} stands here a second time, after {places[key]}: leave one")
            places[key] = _place(event)
            found[key], below = self._value(next(self._events), depth + 1)
            height = max(height, below)
        self._places[id(found)] = places
        return found, height + 1

    def _list(self, depth: int) -> tuple[list[object], int]:
        found: list[object] = []
        places: dict[object, Place] = {}
        height = 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            places[len(found)] = _place(event)
            value, below = self._value(event, depth + 1)
            found.append(value)
            height = max(height, below)
        self._places[id(found)] = places
        return found, height + 1

    def _key(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            _refuse(event, "a key must be a text")
        if event.value == "<<" and event.implicit[0]:
            _refuse(event, "merge keys (<<) aren't taken: write the fields out")
        if event.value == "" and event.implicit[0]:
            _refuse(event, "a value stands here without a key")
        key, _ = self._value(event, 0)
        return event.value if key is None else str(key)  # `null` is a name as any other

    def _repeated(self, event: yaml.AliasEvent, depth: int) -> tuple[object, int]:
        if event.anchor not in self._anchors:
            _refuse(event, f"*{event.anchor} repeats nothing that stands whole above it as &{event.anchor}")
        value, characters, height = self._anchors[event.anchor]
        if depth + height > DEEPEST:
            _refuse(event, f"with *{event.anchor}, more than {DEEPEST} mappings and lists stand within one another")
        self._count(event, characters)
        return value, height

    def _count(self, event: yaml.Event, characters: int) -> None:
        self._characters += characters
        if self._characters > MOST_CHARACTERS:
            _refuse(event, f"here are more than {MOST_CHARACTERS:,} characters, with what aliases (*) repeat")


def _text(event: yaml.ScalarEvent) -> str | None:
    text: str = event.value
    if "\0" in text:
        _refuse(event, r"a value can't hold the null character (\0)")
    return None if event.implicit[0] and text in _NULLS else text


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    assert mark is not None  # only events that are made by hand have none
    return Place(mark.line + 1, mark.column + 1)


def _refuse(event: yaml.Event, why: str) -> NoReturn:
    raise NotPlain(f"{_place(event)}: {why}")
