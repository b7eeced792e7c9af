"""Data sources, without Dagster: describe a shop's files (`spec`), read them (`reader`), check them (`check`).

From file to raw lines: `paths` finds files, `landing` knows which are complete, `formats` reads them as text, and
`values` converts the text to types.
"""
