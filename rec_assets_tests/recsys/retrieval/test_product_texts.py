import hashlib

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.retrieval.product_texts import content_hash, embed_new, join_columns

NOTHING = pd.DataFrame({"content_hash": pd.Series(dtype=object), "vector": pd.Series(dtype=object)})


class Encoder:
    """Records its calls. The vector of a text is its length, and 1."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.calls.append(texts)
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
def test_empty_columns_are_left_out_of_the_joined_text(values, joined):
    frame = pd.DataFrame([values], columns=["a", "b"], dtype=object)
    assert join_columns(frame, ["a", "b"], ", ").to_list() == [joined]


def test_without_columns_the_joined_text_is_null():
    frame = pd.DataFrame({"a": ["x", "y"]}, index=[5, 3])
    assert join_columns(frame, [], " ").to_dict() == {5: None, 3: None}
    assert join_columns(frame.iloc[:0], ["a"], " ").empty


def test_the_hash_is_sha_256_of_the_text():
    assert content_hash("käse") == hashlib.sha256("käse".encode()).hexdigest()
    assert content_hash(None) is content_hash("") is content_hash(float("nan")) is None


def test_each_distinct_text_is_encoded_once():
    encode = Encoder()
    embeddings = embed_new(products("tea", "coffee", "tea", None), NOTHING, encode)
    assert sorted(encode.calls[0]) == ["coffee", "tea"] and len(encode.calls) == 1
    by_hash = dict(zip(embeddings["content_hash"], embeddings["vector"], strict=True))
    assert {text: by_hash[content_hash(text)].tolist() for text in ("tea", "coffee")} == {
        "tea": [3, 1],
        "coffee": [6, 1],
    }
    assert all(vector.dtype == np.float32 for vector in embeddings["vector"])
    assert embeddings["content_hash"].is_monotonic_increasing


def test_a_known_text_is_not_encoded_again_and_stays():
    encode = Encoder()
    known = embed_new(products("tea", "coffee"), NOTHING, encode)
    embeddings = embed_new(products("tea", "milk"), known, encode)
    assert encode.calls[1:] == [["milk"]]
    assert len(embeddings) == 3
    again = embed_new(products("coffee", "milk"), embeddings, encode)
    assert len(encode.calls) == 2
    assert again["content_hash"].to_list() == embeddings["content_hash"].to_list()


def test_without_texts_the_encoder_is_not_called():
    encode = Encoder()
    assert embed_new(products(None, None), NOTHING, encode).empty
    assert encode.calls == []


def test_the_order_of_products_changes_nothing():
    texts = [f"text {number}" for number in range(9)]
    one, other = (embed_new(products(*order), NOTHING, Encoder()) for order in (texts, texts[::-1]))
    assert one["content_hash"].equals(other["content_hash"])
    assert [v.tolist() for v in one["vector"]] == [v.tolist() for v in other["vector"]]
