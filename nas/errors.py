"""The one error of a request that cannot be met, how values are shown in it, and the one warning."""

from typing import Any


class Error(ValueError):
    """What was asked cannot be done: the message has the rule, the value that breaks it, and the way out.

    Raised before anything is trained. A ValueError, so that code which expects one catches it.
    """


class Notice(UserWarning):
    """Something that should be known, though the work goes on."""


def shown(value: Any) -> str:
    """`value` as an error shows it: at most a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
