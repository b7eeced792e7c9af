"""The base class of errors that a user can fix."""


class UserError(Exception):
    """An error whose message says what to do. The command line prints it without a stack trace."""
