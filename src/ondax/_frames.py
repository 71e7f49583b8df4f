"""Where a warning is to point to: the line of the user's, not one of ours."""

from __future__ import annotations

from types import FrameType


def levels_to_the_user(frame: FrameType | None) -> int:
    """How far up the calls from a frame lies the first that neither ondax nor what constructs its
    Modules made: the `stacklevel` of a warning given in that frame."""
    ours = (__name__.partition(".")[0], "equinox", "jaxtyping", "beartype", "contextlib")
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame, level = frame.f_back, level + 1
    return level
