"""Raw lines: rows of `raw_purchase_logs`, as reading makes them and cleaning gets them."""

from __future__ import annotations

import pyarrow as pa

RAW_SCHEMA = pa.schema(
    [
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
        ("order_id", pa.string()),
        ("customer_id", pa.string()),
        ("product_id", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("quantity", pa.float64()),
        ("unit_price", pa.float64()),
        ("rating", pa.float64()),
        ("is_return", pa.bool_()),
        ("was_returned", pa.bool_()),
        ("wrong_size", pa.bool_()),
        ("excluded_by", pa.string()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("brand", pa.string()),
        ("text", pa.string()),
        ("variant_of", pa.string()),
        ("line", pa.string()),
    ]
)
"""`raw_purchase_logs`. Null means no readable value. `line` is the complete line as JSON, with all values as text.

`is_return`: the line is a return. `was_returned`: the line is a purchase, and its status says that it was returned.
`wrong_size`: one of both, and the reason is the size, or unknown.
"""

LINE = ["source_file", "source_row"]
"""The columns that identify a raw line. They also give its place among the lines of its day."""
