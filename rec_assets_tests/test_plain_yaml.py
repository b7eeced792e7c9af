"""The YAML that files can use, and the errors for unsupported or invalid YAML."""

import os
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from rec_assets.plain_yaml import UnsupportedYaml, parse
from rec_assets.yaml_file import MAX_BYTES, read_yaml

LAUGHS = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
NESTED_BY_ALIASES = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [[[[[[*a{i - 1}]]]]]]\n" for i in range(1, 3000))


class Box(BaseModel, extra="forbid"):
    name: str
    sizes: dict[str, int] = {}


def read(path: Path, content: bytes) -> Box:
    path.write_bytes(content)
    return read_yaml(path, Box, "a box is a mapping")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("a: 0123\nb: no\nc: 2017-01-01\nd: .nan\ne: 1_000", {"a": "0123", "b": "no", "c": "2017-01-01", "d": ".nan",
                                                             "e": "1_000"}),
        ("a:\nb: ~\nc: null\nd: 'null'\ne: ''", {"a": None, "b": None, "c": None, "d": "null", "e": ""}),
        ("1: a\nnull: b\ntrue: c", {"1": "a", "null": "b", "true": "c"}),
        ("a: &x [1, {b: 2}]\nc: *x", {"a": ["1", {"b": "2"}], "c": ["1", {"b": "2"}]}),
        ("a: >\n  one\n  two\nb: \"\\u00e9\"", {"a": "one two\n", "b": "é"}),
        ("%YAML 1.1\n---\na: 1\n...\n", {"a": "1"}),
        ("'<<': 1", {"<<": "1"}),
        ("", None),
        ("# nothing", None),
        ("[" * 32 + "]" * 32, None),
    ],
)  # fmt: skip
def test_values_are_the_text_of_the_file(text: str, content: object) -> None:
    result = parse(text).content
    assert result == content or (content is None and str(result).startswith("[[["))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("never: 1\nother: 2\nnever: 3", "line 3, column 1: duplicate key never, first at line 1, column 1"),
        ("a: {b: 1, 'b': 2}", "line 1, column 11: duplicate key b, first at line 1, column 5"),
        ("a: 1\n<<: {b: 2}", "line 2, column 1: merge keys (<<) are not supported"),
        ("a: !!int 3", "line 1, column 4: tags such as !!int are not supported"),
        ("a: !!binary aGE=", "tags such as !!binary"),
        ("a: !recalled 3", "tags such as !recalled"),
        ("a: ! 3", "tags such as !"),
        ("!!python/object/apply:os.system [ls]", "tags such as !!python/object/apply:os.system"),
        ("!!str a: 1", "tags such as !!str"),
        ("a: &a [*a]", "line 1, column 8: the alias *a has no complete anchor &a above it"),
        ("a: *b", "the alias *b has no complete anchor"),
        ("a: &b c\n*b : 1", "line 2, column 1: a key must be text"),
        ("? [a]\n: b", "a key must be text"),
        ("? \n: 1", "this value has no key"),
        (LAUGHS, "the file has more than 1,000,000 characters, with repeated aliases (*)"),
        (NESTED_BY_ALIASES, "mappings and lists are nested more than 32 levels deep"),
        ("[" * 33 + "]" * 33, "line 1, column 33: mappings and lists are nested more than 32"),
        ("[" * 100_000, "mappings and lists are nested more than 32 levels"),
        ("- " * 100_000, "mappings and lists are nested more than 32 levels"),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document begins here"),
        ("a:\n\tb: 1", "line 2, column 1: while scanning for the next token found character that cannot start any "
                       "token: indent with spaces, not with tabs"),
        ("a: b\x00", "line 1, column 5: YAML doesn't allow the character U+0000"),
        ("a: 1\nb: \x07", "line 2, column 4: YAML doesn't allow the character U+0007"),
        ('a: "\\0"', "line 1, column 4: a value can't have the null character"),
        ("a: 1\n b: 2", "line 2, column 3: mapping values are not allowed in this context"),
        ("a: [", "did not find expected node content"),
        ("a: 'b", "while scanning a quoted scalar found unexpected end of stream"),
    ],
)  # fmt: skip
def test_unsupported_yaml_is_an_error_with_its_position(text: str, expected: str) -> None:
    with pytest.raises(UnsupportedYaml) as error:
        parse(text)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"nme: a", "line 1, column 1: unknown field nme; did you mean name?"),
        (
            b"name: a\nsizes:\n  small: 1\n  large: much",
            "line 4, column 3: sizes.large: Input should be a valid integer",
        ),
        (b"name: a\nsizes: {a: " + b"9" * 5000 + b"}", "line 2, column 9: sizes.a: Unable to parse input string"),
        (b"name: [a]", "line 1, column 1: name: Input should be a valid string"),
        ("name: a".encode("utf-16"), "line 1: not UTF-8 text: save the file as UTF-8"),
        (b"name: a\n# caf\xe9", "line 2: not UTF-8 text"),
        (b"name: " + b"a" * MAX_BYTES, "is larger than the limit of 262,144 bytes"),
        (b"\n".join(b"k%d: 1" % i for i in range(9)), "; and 5 more"),
        (b"? '" + b"x" * 9_999 + b"\n\n y'\n: 1", "unknown field xxxx"),
    ],
)
def test_an_error_is_one_short_line_with_the_file_and_the_position(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    with pytest.raises(ValueError, match="box") as error:
        read(tmp_path / "box.yaml", content)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'box.yaml'}: ") and expected in message
    assert message.isprintable() and len(message) < 2_500


def test_windows_line_endings_and_a_byte_order_mark_are_supported(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    plain = read(path, b"name: a\nsizes:\n  b: 1\n")
    assert read(path, b"\xef\xbb\xbfname: a\r\nsizes:\r\n  b: 1\r\n") == plain
    with pytest.raises(ValueError, match="line 3, column 3"):
        read(path, b"\xef\xbb\xbfname: a\r\nsizes:\r\n  b: c\r\n")


def test_a_file_that_is_not_regular_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")  # opening a pipe waits for a writer
    for name in ("pipe.yaml", "."):
        with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / name))}: is not a regular file"):
            read_yaml(tmp_path / name, Box, "a box is a mapping")
    with pytest.raises(ValueError, match="No such file or directory"):
        read_yaml(tmp_path / "gone.yaml", Box, "a box is a mapping")
