"""Conditions on attributes of products."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from rec_assets.recsys.data.attributes import Attributes, Condition, Range

PRODUCTS = Attributes.from_json(
    [
        '{"color": "red", "sizes": ["S", "M"], "margin": 0.2, "launched": "2024-01-31"}',
        '{"color": "blue", "sizes": ["M"], "margin": 0.4, "_cost": 3}',
        '{"color": ["red", "green"], "launched": "2024-03-01"}',
        "",
    ]
)


@pytest.mark.parametrize(
    ("name", "condition", "met"),
    [
        ("color", ["red"], [0, 2]),
        ("color", ["red", "blue"], [0, 1, 2]),
        ("sizes", ["M"], [0, 1]),
        ("sizes", ["XL"], []),
        ("margin", {"gte": 0.2, "lt": 0.4}, [0]),
        ("margin", {"gt": 0.2}, [1]),
        ("margin", [0.4], [1]),
        ("launched", {"lte": "2024-02-01"}, [0]),
        ("cost", {"gt": 1}, [1]),
        ("fabric", ["wool"], []),
        ("margin", ["high"], []),
        ("color", {"gt": 3}, []),
        ("color", {"gte": "2024-01-01"}, []),
    ],
)
def test_a_condition_selects_the_products_that_meet_it(name: str, condition: object, met: list[int]) -> None:
    parsed = TypeAdapter[tuple[str | float, ...] | Range](Condition).validate_python(condition)
    assert np.flatnonzero(PRODUCTS.mask([(name, parsed)])).tolist() == met


def test_all_conditions_must_be_met() -> None:
    conditions = [("color", ("red",)), ("margin", Range(lt=0.3))]
    assert np.flatnonzero(PRODUCTS.mask(conditions)).tolist() == [0]
    assert PRODUCTS.mask([]).all()


def test_problems_say_why_a_condition_can_not_be_met() -> None:
    assert PRODUCTS.problems([("color", ("red",)), ("margin", Range(gt=1))]) == []
    assert PRODUCTS.problems([("fabric", ("wool",)), ("margin", ("high",)), ("color", Range(gt=1))]) == [
        "there is no attribute fabric; there are color, launched, margin, sizes",
        "margin is a number: compare it with numbers",
        "color is no number: compare it with texts, or with dates such as 2024-03-31",
    ]


@pytest.mark.parametrize("wrong", [{}, {"gte": "soon"}, {"gte": 1, "lt": "2024-01-01"}, [], [""], {"above": 1}])
def test_a_condition_must_make_sense(wrong: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[object](Condition).validate_python(wrong)


def test_numbers_and_groups_are_for_rules() -> None:
    np.testing.assert_array_equal(PRODUCTS.numbers("margin"), [0.2, 0.4, np.nan, np.nan])
    assert np.isnan(PRODUCTS.numbers("color")).all() and np.isnan(PRODUCTS.numbers("fabric")).all()
    groups = PRODUCTS.groups("color")
    assert groups[0] == groups[2] != groups[1] and groups[3] == -1


def test_shoppers_do_not_see_hidden_attributes() -> None:
    assert PRODUCTS.shown(1) == {"color": "blue", "sizes": ["M"], "margin": 0.4}
    assert PRODUCTS.shown(3) == {}


def test_a_column_of_numbers_and_texts_is_one_of_texts() -> None:
    mixed = Attributes([{"fit": 3.0}, {"fit": "slim"}])
    assert mixed.mask([("fit", ("slim",))]).tolist() == [False, True]
    assert mixed.problems([("fit", Range(gt=1))]) != []
