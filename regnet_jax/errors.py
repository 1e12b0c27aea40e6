"""The errors that are meant for people."""


class InputError(ValueError):
    """Something given from outside cannot be used.

    The message is one line that names the file or flag, the fact and the
    remedy. The binaries print it alone and exit with status 2.
    """


def shown(value) -> str:
    """What was given, as a few words of one line, for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


class DivergenceError(ArithmeticError):
    """A training computed something that is not finite.

    The message is one line that names the step, the quantity and the remedy. The
    binaries print it alone and exit with status 3.
    """
