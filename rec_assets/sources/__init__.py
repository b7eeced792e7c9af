"""Data sources, without Dagster: describe a shop's files (`spec`), read them (`reader`), check them (`check`).

From file to raw lines: `paths` finds files, `formats` reads them as text, `values` converts the text to types.
"""
