"""What files say about themselves that a user should know of."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable

from .._frames import levels_to_the_user


class HeaderNotice(UserWarning):
    """Headers of a file are wrong, disagree, or can be understood in two ways; the notice says what
    was done about it. A line keeps its notices, `line.notices`."""


def give(notices: Iterable[str]) -> tuple[str, ...]:
    """Warn of each, in the user's line of code; and return them."""
    given = tuple(notices)
    for notice in given:
        level = levels_to_the_user(inspect.currentframe())
        warnings.warn(notice, HeaderNotice, stacklevel=level)
    return given


def merged(said: Iterable[tuple[str, str]]) -> list[str]:
    """One notice for all files of which the same is to be said.

    Args:
        said: pairs of a file's name and what is said of it.
    """
    names: dict[str, list[str]] = {}
    for name, text in said:
        names.setdefault(text, []).append(name)
    return [
        f"{files[0]}{f' and {len(files) - 1} other files' if len(files) > 1 else ''}: {text}"
        for text, files in names.items()
    ]
