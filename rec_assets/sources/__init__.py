"""Sources: how a shop's files look (`spec`), reading them (`reader`), explaining them (`check`).

From a file to raw lines: `paths` finds it, `formats` makes it text, `values` types the text. Free of Dagster.
"""
