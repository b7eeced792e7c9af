"""Assets: one module per asset group, and helper modules. An asset reads inputs, calls `recsys`, and adds metadata."""
