"""The exceptions pd_trl raises for input it cannot work with."""

from .safety.secrets import masked_text


class InputError(ValueError):
    """
    Input that pd_trl cannot work with: data, arguments, or files of another run.

    The message says what was expected, what was found and where (row, column, file), and what to do next. The command
    line prints it and exits with code 2. Passwords and tokens that it quotes are masked.
    """

    def __init__(self, *args: object):
        super().__init__(*(masked_text(arg) if isinstance(arg, str) else arg for arg in args))


class InputTypeError(InputError, TypeError):
    """An [`InputError`] about the type of an argument, e.g. a list where a `Dataset` is expected."""
