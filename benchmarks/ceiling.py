"""`python -m benchmarks.ceiling`: how well the purchases of a window can be predicted at most; writes ceiling.csv.

Decayed counts of the customer's own purchases are by far the best single list of the Complete Journey. Here they also
know what the customer bought after the window. No model can know that, so what they reach is a practical upper limit
for the list of all purchases.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks.datasets import JOURNEY, complete_journey
from benchmarks.peers.history import OwnPurchases
from benchmarks.protocols import HORIZON_DAYS, Split, journey_splits
from rec_assets.recsys.evaluation.evaluate import ALL_PURCHASES
from rec_assets.recsys.evaluation.metrics import ranking_metrics

RESULTS = Path(__file__).with_name("results") / "ceiling.csv"

WINDOWS = (pd.Timestamp("2017-06-04"), pd.Timestamp("2017-07-02"), pd.Timestamp("2017-07-30"))
"""Last days before windows in the middle of the year, with many purchases on both sides."""

HALF_LIFE_DAYS = 120.0


def with_the_future(split: Split, lines: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """The known lines, and those after the window: `age` is the number of days between a line and the window.

    `lines` are as in `datasets`. Only products of the split's catalog are included.
    """
    after = (lines["day"] - as_of).dt.days - HORIZON_DAYS
    later = lines[(after > 0) & lines["product_id"].isin(split.products["product_id"])]
    return pd.concat([split.lines, later.assign(age=after[later.index] - 1)], ignore_index=True)


def ndcg(split: Split, lines: pd.DataFrame) -> float:
    """Mean NDCG@10 of decayed counts of these lines."""
    customers = np.sort(split.truth["customer_id"].unique())
    peer = OwnPurchases(HALF_LIFE_DAYS).fit(lines, split.products)
    return float(ranking_metrics(peer.top(customers, 10, False), split.truth, [10])["ndcg@10"].mean())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure decayed counts with and without the purchases after the window."""
    lines, products = complete_journey()
    rows = []
    for as_of in WINDOWS:
        split = next(each for each in journey_splits(lines, products, as_of) if each.task == ALL_PURCHASES)
        past, both = ndcg(split, split.lines), ndcg(split, with_the_future(split, lines, as_of))
        rows.append((JOURNEY, split.protocol, round(past, 4), round(both, 4), round(both / past - 1, 3)))
    columns = ["dataset", "protocol", "ndcg@10 of the past", "ndcg@10 with the future", "gain"]
    results = pd.DataFrame(rows, columns=columns)
    results.to_csv(RESULTS, index=False)
    click.echo(results.to_markdown(index=False))


if __name__ == "__main__":
    main()
