import hashlib

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.retrieval.text import content_hash, embed_new, join_columns

NOTHING = pd.DataFrame({"content_hash": pd.Series(dtype=object), "vector": pd.Series(dtype=object)})


class Encoder:
    """Counts how often it is asked; a text's vector is its length, and 1."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.asked.append(texts)
        return np.array([[len(text), 1] for text in texts], dtype=np.float64)


def products(*texts: str | None) -> pd.DataFrame:
    return pd.DataFrame({"text": list(texts), "content_hash": [content_hash(text) for text in texts]}, dtype=object)


@pytest.mark.parametrize(
    ("values", "joined"),
    [
        (("Oat Milk", "1 l"), "Oat Milk, 1 l"),
        ((" Oat Milk ", ""), "Oat Milk"),
        ((None, "1 l"), "1 l"),
        ((None, " "), None),
        ((float("nan"), None), None),
        (("0", "0"), "0, 0"),
    ],
)
def test_columns_are_joined_without_those_that_are_empty(values, joined):
    frame = pd.DataFrame([values], columns=["a", "b"], dtype=object)
    assert join_columns(frame, ["a", "b"], ", ").to_list() == [joined]


def test_no_column_joins_to_nothing():
    frame = pd.DataFrame({"a": ["x", "y"]}, index=[5, 3])
    assert join_columns(frame, [], " ").to_dict() == {5: None, 3: None}
    assert join_columns(frame.iloc[:0], ["a"], " ").empty


def test_the_hash_is_sha_256_of_the_text():
    assert content_hash("käse") == hashlib.sha256("käse".encode()).hexdigest()
    assert content_hash(None) is content_hash("") is content_hash(float("nan")) is None


def test_each_distinct_text_is_encoded_once():
    encode = Encoder()
    found = embed_new(products("tea", "coffee", "tea", None), NOTHING, encode)
    assert sorted(encode.asked[0]) == ["coffee", "tea"] and len(encode.asked) == 1
    by_hash = dict(zip(found["content_hash"], found["vector"], strict=True))
    assert {text: by_hash[content_hash(text)].tolist() for text in ("tea", "coffee")} == {
        "tea": [3, 1],
        "coffee": [6, 1],
    }
    assert all(vector.dtype == np.float32 for vector in found["vector"])
    assert found["content_hash"].is_monotonic_increasing


def test_what_is_known_is_not_encoded_again_and_not_forgotten():
    encode = Encoder()
    known = embed_new(products("tea", "coffee"), NOTHING, encode)
    found = embed_new(products("tea", "milk"), known, encode)
    assert encode.asked[1:] == [["milk"]]
    assert len(found) == 3
    again = embed_new(products("coffee", "milk"), found, encode)
    assert len(encode.asked) == 2
    assert again["content_hash"].to_list() == found["content_hash"].to_list()


def test_without_any_text_the_encoder_is_not_asked():
    encode = Encoder()
    assert embed_new(products(None, None), NOTHING, encode).empty
    assert encode.asked == []


def test_the_order_of_products_changes_nothing():
    texts = [f"text {number}" for number in range(9)]
    one, other = (embed_new(products(*order), NOTHING, Encoder()) for order in (texts, texts[::-1]))
    assert one["content_hash"].equals(other["content_hash"])
    assert [v.tolist() for v in one["vector"]] == [v.tolist() for v in other["vector"]]
