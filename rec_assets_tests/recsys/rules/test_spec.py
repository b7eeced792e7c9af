"""The rules' file: what it may say, and what is said of one that is wrong."""

import gzip
from pathlib import Path

import pytest

from rec_assets.recsys.rules.spec import NO_RULES, NONE, BoostRule, Rules, RulesError, read_rules

WHOLE = """
default: house
rule_sets:
  house:
    - {name: recalled, kind: never, products: {file: recalled.csv, categories: [tea]}}
    - {name: from-two, kind: price_floor, least: 2}
    - {name: margin, kind: weigh, worth: margin.csv, strength: 0.4}
    - {name: dearer, kind: weigh}
    - {name: net, kind: returns, cost: 0.3}
    - {name: with-it, kind: complements_first, days: 3}
    - {name: tail, kind: favor, products: {slow_movers: 0.3}, places: 2, most_loss: 0.01}
    - {name: mixed, kind: cap, per: brand, most: 3}
    - {name: enough, kind: frequency_cap, most: 4}
    - {name: launch, kind: pin, product: 0123, place: 1}
  bare: []
"""


def write(folder: Path, text: str) -> Path:
    (folder / "recalled.csv").write_text("product_id,why\n007,glass\n", encoding="utf-8")
    (folder / "margin.csv").write_text("product_id,worth\n0123,2.5\n7,1\n", encoding="utf-8")
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str) -> Rules:
    return read_rules(write(folder, text))


def test_a_file_with_every_kind_is_understood(tmp_path: Path) -> None:
    rules = read(tmp_path, WHOLE)
    assert rules.default == "house" and set(rules.sets) == {NONE, "house", "bare"}
    assert [rule.kind for rule in rules.sets["house"]] == [
        "never", "price_floor", "weigh", "weigh", "returns", "complements_first", "favor", "cap", "frequency_cap",
        "pin",
    ]  # fmt: skip
    assert rules.sets["house"][-1].product == "0123"  # no octal number
    assert rules.lists["recalled.csv"].to_dict() == {"007": 1.0}
    assert rules.lists["margin.csv"].to_dict() == {"0123": 2.5, "7": 1.0}
    assert {path.name for path in rules.files} == {"rules.yaml", "recalled.csv", "margin.csv"}
    tail = rules.sets["house"][6]
    assert isinstance(tail, BoostRule) and tail.most_loss == 0.01


def test_without_a_file_there_is_a_set_without_rules() -> None:
    assert read_rules(None) is NO_RULES
    assert NO_RULES.version(NO_RULES.default) == "" and NO_RULES.files == []


def test_a_version_tells_what_a_set_and_its_lists_say(tmp_path: Path) -> None:
    first = read(tmp_path, WHOLE)
    assert first.version("bare") == ""
    assert read(tmp_path, WHOLE).version("house") == first.version("house") != ""
    assert read(tmp_path, WHOLE.replace("least: 2", "least: 3")).version("house") != first.version("house")
    path = write(tmp_path, WHOLE)
    (tmp_path / "recalled.csv").write_text("product_id\n008\n", encoding="utf-8")
    assert read_rules(path).version("house") != first.version("house")


def one(rule: str) -> str:
    return f"rule_sets: {{house: [{rule}]}}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (one("{name: a, kind: never, products: {ids: [x]}}") + "rule_sets: {house: []}", "line 2, column 1: rule_sets"),
        ("- a", "a file of rules has its sets under `rule_sets:`, and here stands a list"),
        ("default: house", "there is no rule set house"),
        ("rule_sets: {none: []}", "none is the set without rules"),
        ("ruel_sets: {}", "did you mean rule_sets?"),
        (one("{name: a, kind: bost}"), "'bost'"),
        (one("{name: a}"), "kind"),
        (one("{kind: price_floor, least: 1}"), "name is missing"),
        (one("{name: a, kind: never}"), "products is missing"),
        (one("{name: a, kind: never, products: {}}"), "names no products: say which by any of ids, file, categories"),
        (one("{name: a, kind: never, products: {category: [tea]}}"), "did you mean categories?"),
        (one("{name: a, kind: favor, products: {ids: [p1]}, places: 20%}"), "places"),
        (one("{name: a, kind: favor, products: {ids: [p1]}, place: 2}"), "did you mean places?"),
        (one("{name: a, kind: favor, products: {ids: [p1]}, places: 12}"), "less than or equal to 10"),
        (one("{name: a, kind: cap, per: color, most: 2}"), "'brand' or 'category'"),
        (one("{name: a, kind: price_floor, least: inf}"), "least: Input should be a finite number"),
        (one("{name: a b, kind: price_floor, least: 1}"), "name"),
        (one("{name: a, kind: price_floor, least: 1}, {name: a, kind: price_floor, least: 2}"), "two rules called a"),
        (one("{name: a, kind: returns}, {name: b, kind: returns}"), "two rules of the kind returns"),
        (one("{name: a, kind: pin, product: x, place: 1}, {name: b, kind: pin, product: y, place: 1}"), "at place 1"),
        (one("{name: a, kind: pin, product: x, place: 1}, {name: b, kind: pin, product: x, place: 2}"), "of product x"),
        (one("{name: a, kind: never, products: {file: gone.csv}}"), "gone.csv"),
        (one("{name: a, kind: weigh, worth: recalled.csv}"), "has no column worth; there are product_id, why"),
    ],
)
def test_what_is_wrong_is_said_in_words(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RulesError, match=r"rules\.yaml|\.csv") as error:
        read(tmp_path, text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("product_id,worth\na,1\nb,much\n", "line 3: worth must be a number above 0: {'product_id': 'b'"),
        ("product_id,worth\na,0\n", "line 2: worth must be a number above 0"),
        ("product_id,worth\na,1\na,2\n", "line 3: product_id stands there a second time"),
        ("id;worth\na;1\n", "has no column product_id; there are id;worth"),
        ("", "not readable as CSV"),
        ("product_id,worth\na,1,2\n", "line 2: not readable as CSV: 3 values under 2 columns"),
        ("product_id,worth\n\na,1\n\nb\n", "line 5: worth must be a number above 0"),
        ("product_id,worth,worth\na,1,2\n", "has two columns worth: leave one"),
        ('product_id,worth\n"a,1\n', "line 2: not readable as CSV: unexpected end of data"),
        ("product_id,worth\na,1\n\udc80,1\n", "line 3: no UTF-8 text: save the file as UTF-8"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_with_its_line(tmp_path: Path, content: str, says: str) -> None:
    path = write(tmp_path, one("{name: a, kind: weigh, worth: margin.csv}"))
    (tmp_path / "margin.csv").write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(RulesError) as error:
        read_rules(path)
    assert "margin.csv" in str(error.value) and says in str(error.value)


def test_lists_are_read_as_they_stand_there_and_not_unpacked(tmp_path: Path) -> None:
    text = one("{name: a, kind: never, products: {file: list.csv}}")
    path = write(tmp_path, text)
    (tmp_path / "list.csv").write_bytes(b'\xef\xbb\xbfproduct_id,why\r\n007,glass\r\n\r\n"a ""b"", c"\r\n')
    assert list(read_rules(path).lists["list.csv"].index) == ["007", 'a "b", c']
    write(tmp_path, text.replace("list.csv", "list.csv.gz"))
    (tmp_path / "list.csv.gz").write_bytes(gzip.compress(b"product_id\n007\n"))
    with pytest.raises(RulesError, match=r"list\.csv\.gz: line 1: no UTF-8 text"):
        read_rules(path)


def test_lists_that_are_large_together_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rec_assets.recsys.rules.spec.MOST_LIST_BYTES", 30)
    rule = "{name: %s, kind: never, products: {file: %s}}"
    path = write(tmp_path, one(rule % ("a", "recalled.csv")))
    assert len(read_rules(path).lists) == 1
    write(tmp_path, one(", ".join(rule % (f"r{n}", "./" * n + "recalled.csv") for n in range(5))))
    with pytest.raises(
        RulesError, match=r"rules\.yaml: its lists of products have 125 bytes together, and may have 30"
    ):
        read_rules(path)
