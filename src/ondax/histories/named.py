"""The ways to keep histories, by name."""

from __future__ import annotations

from .automatic import Automatic
from .base import AbstractHistory
from .disk import Disk
from .half import Half
from .levels import RevolveOnDisk
from .revolve import Revolve
from .sampled import LOBES
from .whole import Whole

WAYS = {
    "auto": Automatic,
    "whole": Whole,
    "half": Half,
    "sampled": Automatic,
    "sampled half": Half,
    "revolve": Revolve,
    "disk": Disk,
    "revolve disk": RevolveOnDisk,
}
ON_DISK = ("disk", "revolve disk")  # those that take a folder
SAMPLED = ("sampled", "sampled half")  # those whose steps are chosen, unless they are given
EXACT = ("auto", "whole", "revolve", "disk", "revolve disk")  # those that lose nothing


def named(
    history: str | AbstractHistory,
    every: int | None = None,
    lobes: int = LOBES[-1],
    folder: str | None = None,
) -> AbstractHistory:
    """The way to keep histories of this name.

    Args:
        history: the name; or a way, which is returned.
        every: every `every`-th step is kept; None for every step.
        lobes: half the length of the smoothing of residuals, in kept steps; see `sampled`.
        folder: for ways that keep something on a disk; None for the default.

    Raises:
        ValueError: there is no such way, or it does not go with `every` or `folder`.
    """
    if folder is not None and history not in ON_DISK:
        raise ValueError(
            f"folder={folder!r}: history={history!r} keeps nothing on a disk; take "
            f"{' or '.join(f'history={name!r}' for name in ON_DISK)}, or leave folder out"
        )
    if isinstance(history, AbstractHistory):
        if every is not None:
            raise ValueError(f"store_every={every}: {history!r} says itself what it keeps")
        return history
    if history not in WAYS:
        raise ValueError(f"history={history!r}: choose one of {', '.join(map(repr, WAYS))}")
    if history == "whole" and every not in (None, 1):
        raise ValueError(
            f'history="whole" keeps every step: leave out store_every={every}, or take '
            'history="sampled"'
        )
    if history in ON_DISK:
        return WAYS[history](every or 1, lobes, folder)
    return WAYS[history](every or 1, lobes)
