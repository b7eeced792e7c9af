"""Subtract returns from the purchases they belong to, within a day or a window of days."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rec_assets.recsys.events import RETURN

_TOLERANCE = 1e-9
"""Smaller remainders are rounding errors, as after a return of 0.3 kg from purchases of 0.1 kg and 0.2 kg."""


def net_returns(lines: pd.DataFrame) -> pd.DataFrame:
    """Subtract returned quantities from the purchases they belong to.

    A return cancels the latest purchases of the same customer and variant that are not later than the return. If these
    are not enough, the rest stays as the return's own `net_quantity`, to be matched in a wider window. Netting each day
    and then the window gives the same result as netting the window at once, because the latest purchases before a
    return are those of its own day.

    Args:
        lines: customer_id, product_id, variant_id (null for a product without variants), event, event_time, line_id,
            net_quantity (≥ 0: for a purchase the quantity kept so far, for a return the quantity not matched yet). The
            result has the same rows with another net_quantity.
    """
    lines = lines.copy()
    is_return = lines["event"] == RETURN
    if not is_return.any():
        return lines
    pair = ["customer_id", "_sold"]
    sold = lines["variant_id"].where(lines["variant_id"].notna(), lines["product_id"])
    keys = pd.MultiIndex.from_arrays([lines["customer_id"], sold])
    touched = np.flatnonzero(keys.isin(keys[is_return]))
    net = lines["net_quantity"].to_numpy(float).copy()
    order = lines.iloc[touched].assign(
        _row=touched, _return=is_return.to_numpy()[touched], _sold=sold.to_numpy(object)[touched]
    )
    order = order.sort_values([*pair, "event_time", "_return", "line_id"], kind="stable")
    for _, group in order.groupby(pair, sort=False):
        open_purchases: list[int] = []
        for row, returned in zip(group["_row"], group["_return"], strict=True):
            if not returned:
                open_purchases.append(row)
                continue
            while net[row] > 0 and open_purchases:
                newest = open_purchases[-1]
                matched = min(net[row], net[newest])
                for line in (row, newest):
                    net[line] = 0.0 if net[line] - matched < _TOLERANCE else net[line] - matched
                if net[newest] == 0:
                    open_purchases.pop()
    lines["net_quantity"] = net
    return lines
