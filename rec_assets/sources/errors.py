"""The error of data sources."""


class SourceError(ValueError):
    """A data source or its files can't be used. The message names the file, the column and what to do."""
