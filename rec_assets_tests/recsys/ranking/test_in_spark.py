"""Each customer is handled in one piece, once."""

import pandas as pd
import pytest

from rec_assets.recsys.spark.customers import whole_customers


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("customers", [1, 2, 50])
def test_no_customer_is_split_or_lost(size: int, customers: int) -> None:
    lines = pd.DataFrame({"customer_id": list("aaaabccddddddddef"), "line": range(17)})
    cut = [lines.iloc[first : first + size] for first in range(0, len(lines), size)]
    regrouped = list(whole_customers(cut, customers))
    assert pd.concat(regrouped)["line"].tolist() == list(range(17))
    seen = [customer for frame in regrouped for customer in frame["customer_id"].unique()]
    assert seen == list("abcdef")
    assert len(regrouped) > 1 or customers == 50
    assert all(frame["customer_id"].nunique() <= customers + size for frame in regrouped)


def test_without_frames_there_are_none() -> None:
    assert list(whole_customers([], 5)) == []


def test_a_long_frame_is_divided() -> None:
    """Files give a task frames of thousands of customers."""
    frame = pd.DataFrame({"customer_id": [f"c{n // 3:03}" for n in range(300)], "n": range(300)})
    parts = list(whole_customers([frame.iloc[:200], frame.iloc[200:]], 7))
    assert max(part["customer_id"].nunique() for part in parts) == 7
    assert sum(part["customer_id"].nunique() for part in parts) == 100  # none is split
    assert pd.concat(parts)["n"].tolist() == list(range(300))
