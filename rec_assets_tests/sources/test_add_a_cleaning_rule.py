"""Follow docs/how-to/add-a-cleaning-rule.md: its example is registered, rejects lines and tells the shop what to do."""

import datetime as dt
import re
from pathlib import Path

from rec_assets.recsys.data import cleaning_rules
from rec_assets.recsys.data.cleaning import CLEANING_RULES, CleaningSettings, clean_day
from rec_assets.sources.check import check_source
from rec_assets.sources.reader import read_day
from rec_assets.sources.spec import load_data_source

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "add-a-cleaning-rule.md"


def test_the_example_of_the_page_rejects_lines_and_says_how_to_fix_them(tmp_path, monkeypatch):
    page = PAGE.read_text(encoding="utf-8")
    function, entry = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    module = dict(vars(cleaning_rules))
    exec(function, module)
    rule = eval(entry, module)
    monkeypatch.setitem(CLEANING_RULES, rule.name, rule)

    lines = ["2017-01-01 10:00,ann,A1,1,1.50"] + [f"2017-01-01 10:{minute},ann,A1,1,1.50" for minute in range(10, 29)]
    typo = "2017-01-01 11:00,bob,A1,1,1500"
    (tmp_path / "2017-01-01.csv").write_text("\n".join(["at,buyer,sku,n,price", *lines, typo]))
    (tmp_path / "shop.yaml").write_text(
        "purchases: {path: '{date:%Y-%m-%d}.csv', columns: "
        "{customer_id: buyer, product_id: sku, time: at, quantity: n, unit_price: price}}"
    )
    source, day = load_data_source(str(tmp_path / "shop.yaml"), tmp_path), dt.date(2017, 1, 1)

    cleaned = clean_day(read_day(source, day).to_pandas(), day, CleaningSettings(source.time_zone, source.has_price))
    assert cleaned.rejected[["customer_id", "reasons"]].to_numpy().tolist() == [["bob", "price_too_high"]]
    assert cleaned.rejected_by_rule() == {"price_too_high": 1}
    assert len(cleaned.cleaned) == len(lines)

    check = check_source(source)
    assert f"price_too_high: 1 line; {rule.reason}" in check.to_text()
    assert any(
        warning.endswith("as `price_too_high`: in these lines, 'price' is '1500'; is a decimal mark missing?")
        for warning in check.warnings
    )
