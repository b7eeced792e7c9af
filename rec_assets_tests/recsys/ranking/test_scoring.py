"""Customers spread over tasks: each is worked on once, whole."""

import pandas as pd
import pytest

from rec_assets.recsys.ranking.scoring import whole_customers


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("customers", [1, 2, 50])
def test_no_customer_is_cut_and_none_is_lost(size: int, customers: int) -> None:
    lines = pd.DataFrame({"customer_id": list("aaaabccddddddddef"), "line": range(17)})
    cut = [lines.iloc[first : first + size] for first in range(0, len(lines), size)]
    found = list(whole_customers(cut, customers))
    assert pd.concat(found)["line"].tolist() == list(range(17))
    seen = [customer for frame in found for customer in frame["customer_id"].unique()]
    assert seen == list("abcdef")
    assert len(found) > 1 or customers == 50
    assert all(frame["customer_id"].nunique() <= customers + size for frame in found)


def test_nothing_comes_of_nothing() -> None:
    assert list(whole_customers([], 5)) == []
