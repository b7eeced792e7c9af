"""The rules file: all rule kinds, and the message for each mistake."""

import gzip
from pathlib import Path

import pytest

from rec_assets.recsys.rules.rule_kinds import BoostRule, PinRule
from rec_assets.recsys.rules.rules_file import EMPTY_RULE_SETS, NO_RULE_SET, RulesError, RuleSets, read_rules

WHOLE = """
default: house
rule_sets:
  house:
    - {name: recalled, kind: exclude, products: {file: recalled.csv, categories: [tea]}}
    - {name: from-two, kind: min_price, price: 2}
    - {name: margin, kind: weight, value_file: margin.csv, strength: 0.4}
    - {name: pricey, kind: weight}
    - {name: net, kind: returns_penalty, cost: 0.3}
    - {name: with-it, kind: complements_first, days: 3}
    - {name: tail, kind: boost, products: {slow_movers: 0.3}, slots: 2, max_dcg_loss: 0.01}
    - {name: mixed, kind: cap, per: brand, max_items: 3}
    - {name: enough, kind: frequency_cap, max_impressions: 4}
    - {name: launch, kind: pin, product_id: 0123, rank: 1}
  bare: []
"""


def write(folder: Path, text: str) -> Path:
    (folder / "recalled.csv").write_text("product_id,why\n007,glass\n", encoding="utf-8")
    (folder / "margin.csv").write_text("product_id,value\n0123,2.5\n7,1\n", encoding="utf-8")
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str) -> RuleSets:
    return read_rules(write(folder, text))


def test_a_file_with_every_kind_is_read(tmp_path: Path) -> None:
    rules = read(tmp_path, WHOLE)
    assert rules.default == "house" and set(rules.sets) == {NO_RULE_SET, "house", "bare"}
    assert [rule.kind for rule in rules.sets["house"]] == [
        "exclude", "min_price", "weight", "weight", "returns_penalty", "complements_first", "boost", "cap",
        "frequency_cap", "pin",
    ]  # fmt: skip
    pin = rules.sets["house"][-1]
    assert isinstance(pin, PinRule) and pin.product_id == "0123"  # not an octal number
    assert rules.product_files["recalled.csv"].to_dict() == {"007": 1.0}
    assert rules.product_files["margin.csv"].to_dict() == {"0123": 2.5, "7": 1.0}
    assert {path.name for path in rules.files} == {"rules.yaml", "recalled.csv", "margin.csv"}
    tail = rules.sets["house"][6]
    assert isinstance(tail, BoostRule) and tail.max_dcg_loss == 0.01


def test_without_a_file_there_is_one_rule_set_without_rules() -> None:
    assert read_rules(None) is EMPTY_RULE_SETS
    assert EMPTY_RULE_SETS.version(EMPTY_RULE_SETS.default) == "" and EMPTY_RULE_SETS.files == []


def test_the_version_changes_with_the_rules_and_their_lists(tmp_path: Path) -> None:
    first = read(tmp_path, WHOLE)
    assert first.version("bare") == ""
    assert read(tmp_path, WHOLE).version("house") == first.version("house") != ""
    assert read(tmp_path, WHOLE.replace("price: 2", "price: 3")).version("house") != first.version("house")
    path = write(tmp_path, WHOLE)
    (tmp_path / "recalled.csv").write_text("product_id\n008\n", encoding="utf-8")
    assert read_rules(path).version("house") != first.version("house")


def one(rule: str) -> str:
    return f"rule_sets: {{house: [{rule}]}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            one("{name: a, kind: exclude, products: {ids: [x]}}") + "rule_sets: {house: []}",
            "line 2, column 1: duplicate key rule_sets",
        ),
        ("- a", "a rules file has its rule sets under `rule_sets:`"),
        ("default: house", "there is no rule set house"),
        ("rule_sets: {none: []}", "none is the rule set without rules"),
        ("ruel_sets: {}", "did you mean rule_sets?"),
        (one("{name: a, kind: bost}"), "'bost'"),
        (one("{name: a}"), "kind"),
        (one("{kind: min_price, price: 1}"), "name is missing"),
        (one("{name: a, kind: exclude}"), "products is missing"),
        (one("{name: a, kind: exclude, products: {}}"), "selects no products: set one of ids, file, categories"),
        (one("{name: a, kind: exclude, products: {category: [tea]}}"), "did you mean categories?"),
        (one("{name: a, kind: boost, products: {ids: [p1]}, slots: 20%}"), "slots"),
        (one("{name: a, kind: boost, products: {ids: [p1]}, slot: 2}"), "did you mean slots?"),
        (one("{name: a, kind: boost, products: {ids: [p1]}, slots: 12}"), "less than or equal to 10"),
        (one("{name: a, kind: weight, value_file: v.csv, attribute: margin}"), "value_file or attribute, not both"),
        (one("{name: a, kind: exclude, products: {attributes: {margin: {over: 3}}}}"), "over"),
        (one("{name: a, kind: exclude, products: {attributes: {margin: {}}}}"), "set one of gt, gte, lt, lte"),
        (one("{name: a, kind: min_price, price: inf}"), "price: Input should be a finite number"),
        (one("{name: a b, kind: min_price, price: 1}"), "name"),
        (
            one("{name: a, kind: min_price, price: 1}, {name: a, kind: min_price, price: 2}"),
            "two rules with the name a",
        ),
        (one("{name: a, kind: returns_penalty}, {name: b, kind: returns_penalty}"), "two returns_penalty rules"),
        (
            one("{name: a, kind: pin, product_id: x, rank: 1}, {name: b, kind: pin, product_id: y, rank: 1}"),
            "two pin rules with the rank 1",
        ),
        (
            one("{name: a, kind: pin, product_id: x, rank: 1}, {name: b, kind: pin, product_id: x, rank: 2}"),
            "two pin rules with the product_id x",
        ),
        (one("{name: a, kind: exclude, products: {file: gone.csv}}"), "gone.csv"),
        (one("{name: a, kind: weight, value_file: recalled.csv}"), "has no column value; there are product_id, why"),
    ],
)
def test_each_mistake_has_a_clear_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RulesError, match=r"rules\.yaml|\.csv") as error:
        read(tmp_path, text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("product_id,value\na,1\nb,much\n", "line 3: value must be a number above 0: {'product_id': 'b'"),
        ("product_id,value\na,0\n", "line 2: value must be a number above 0"),
        ("product_id,value\na,1\na,2\n", "line 3: this product_id is in an earlier line"),
        ("id;value\na;1\n", "has no column product_id; there are id;value"),
        ("", "not readable as CSV"),
        ("product_id,value\na,1,2\n", "line 2: not readable as CSV: 3 values under 2 columns"),
        ("product_id,value\n\na,1\n\nb\n", "line 5: value must be a number above 0"),
        ("product_id,value,value\na,1,2\n", "has two columns value: remove one"),
        ('product_id,value\n"a,1\n', "line 2: not readable as CSV: unexpected end of data"),
        ("product_id,value\na,1\n\udc80,1\n", "line 3: not UTF-8 text: save the file as UTF-8"),
    ],
)
def test_each_mistake_in_a_product_file_is_reported_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, one("{name: a, kind: weight, value_file: margin.csv}"))
    (tmp_path / "margin.csv").write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(RulesError) as error:
        read_rules(path)
    assert "margin.csv" in str(error.value) and message in str(error.value)


def test_product_files_are_read_as_text_and_not_decompressed(tmp_path: Path) -> None:
    text = one("{name: a, kind: exclude, products: {file: list.csv}}")
    path = write(tmp_path, text)
    (tmp_path / "list.csv").write_bytes(b'\xef\xbb\xbfproduct_id,why\r\n007,glass\r\n\r\n"a ""b"", c"\r\n')
    assert list(read_rules(path).product_files["list.csv"].index) == ["007", 'a "b", c']
    write(tmp_path, text.replace("list.csv", "list.csv.gz"))
    (tmp_path / "list.csv.gz").write_bytes(gzip.compress(b"product_id\n007\n"))
    with pytest.raises(RulesError, match=r"list\.csv\.gz: line 1: not UTF-8 text"):
        read_rules(path)


def test_product_files_too_large_together_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rec_assets.recsys.rules.rules_file.MAX_PRODUCT_FILE_BYTES", 30)
    rule = "{name: %s, kind: exclude, products: {file: %s}}"
    path = write(tmp_path, one(rule % ("a", "recalled.csv")))
    assert len(read_rules(path).product_files) == 1
    write(tmp_path, one(", ".join(rule % (f"r{n}", "./" * n + "recalled.csv") for n in range(5))))
    with pytest.raises(RulesError, match=r"rules\.yaml: its product files have 125 bytes together, more than 30"):
        read_rules(path)
