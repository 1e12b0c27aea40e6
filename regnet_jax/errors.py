"""Errors with a message for the user."""


class InputError(ValueError):
    """An input that cannot be used: a file, a flag, an argument.

    The message is one line that names the file or flag, the fact and the
    remedy. The commands print it alone and exit with status 2.
    """


def shown(value) -> str:
    """Return the representation of a value, shortened to one line for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


class DivergenceError(ArithmeticError):
    """A training step that computed a value that is not finite.

    The message is one line that names the step, the quantity and the remedy. The
    commands print it alone and exit with status 3.
    """
