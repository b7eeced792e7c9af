"""What can be wrong with a source: one error, whose message names the file, the column and what to do."""


class SourceError(ValueError):
    """A source's description or files can't be used as they are."""
