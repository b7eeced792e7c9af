"""The error of data sources."""

from rec_assets.errors import UserError


class SourceError(UserError, ValueError):
    """A data source or its files can't be used. The message names the file, the column and what to do."""
