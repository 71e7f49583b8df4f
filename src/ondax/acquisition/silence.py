"""Sources and receivers on a free surface, where what they feed or read vanishes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from .._frames import levels_to_the_user
from ..grid import Grid
from ..scheme.plan import Plan, PlannedPort
from ..survey import Survey

ON_SURFACE = 1e-5  # cells from it: positions may have been rounded to float32


class SilentReceivers(UserWarning):
    """Some receivers of a survey stand on a free surface where what they read vanishes."""


_EXPECTED = ContextVar("silence is expected", default=False)


@contextmanager
def expected() -> Iterator[None]:
    """Within it, propagators may have silent points: all of a grid's are sources or receivers of a
    wavefield."""
    token = _EXPECTED.set(True)
    try:
        yield
    finally:
        _EXPECTED.reset(token)


def any_on_surface(points: np.ndarray, grid: Grid) -> bool:
    """Does a point stand on the first row of the grid?"""
    return bool(np.any(_on_surface(points, grid)))


def _on_surface(points: np.ndarray, grid: Grid) -> np.ndarray:
    return points[:, -1] <= grid.extent[-1][0] + ON_SURFACE * grid.spacing[-1]


def check(
    what: str, points: np.ndarray, ports: Sequence[PlannedPort], plan: Plan, grid: Grid, warn: bool
) -> None:
    """Refuse sources that cannot radiate and surveys that can only record zeros; warn of single
    receivers that do.

    Args:
        what: "sources" or "receivers".
        points: positions, metres, (point, axis).
        ports: what they feed or read.
        plan: the scheme's.
        grid: the model's grid, whose first row is the free surface.
        warn: of single receivers.

    Raises:
        ValueError: a source on the surface that radiates nothing there, or no receiver elsewhere.
    """
    if _EXPECTED.get() or not all(map(plan.vanishes_at_surface, ports)):
        return
    silent, surface, spacing = _on_surface(points, grid), grid.extent[-1][0], grid.spacing[-1]
    names = " and ".join(repr(port.name) for port in ports)
    count = f"{np.count_nonzero(silent)} of {len(points)}"
    where = f"{count} stand on the free surface at z = {surface:g} m, "
    if what == "sources":
        raise ValueError(
            f"sources: {where}where {names} radiates nothing, because the field that it feeds "
            "vanishes there. Place them "
            "below the surface: what they radiate grows with their depth; half a cell is "
            f"{0.5 * spacing:g} m"
        )
    remedy = (
        f"where {names} reads zeros only, because the field vanishes there. Place them below the "
        f"surface, for example half a cell deep, at z = {surface + 0.5 * spacing:g} m"
    )
    if np.all(silent):
        raise ValueError(f"receivers: {where}{remedy}")
    if warn:
        level = levels_to_the_user(inspect.currentframe())
        warnings.warn(f"receivers: {where}{remedy}", SilentReceivers, stacklevel=level)


class SuspiciousPositions(UserWarning):
    """All sources and receivers stand so close together that their positions may be in kilometres,
    or in cells."""


def check_units_of_positions(survey: Survey, grid: Grid) -> None:
    """Warn of a survey all of which stands within the first metre of the model, or within its first
    tenth along every axis.

    Warns:
        SuspiciousPositions: it does.
    """
    rows = [points.rows for points in survey.points if points.rows.size]
    nearest, farthest = np.min([r.min(0) for r in rows], 0), np.max([r.max(0) for r in rows], 0)
    spread = farthest - [low for low, _ in grid.extent]
    sizes = np.array([high - low for low, high in grid.extent])
    first_metre = np.all(spread <= 1.0) and np.all(sizes > 10.0)
    first_tenth = grid.ndim > 1 and np.all(spread <= 0.1 * sizes)
    apart = sum(map(len, rows)) > 2 and bool(np.any(farthest > nearest))
    if apart and (first_metre or first_tenth):
        reach = ", ".join(f"{x:.4g}" for x in spread)
        warnings.warn(
            f"all sources and receivers stand within {reach} m of the grid's first point, of a "
            "model of "
            f"{' x '.join(f'{n:.4g}' for n in sizes)} m: positions are in metres, neither in "
            "kilometres nor in cells",
            SuspiciousPositions,
            stacklevel=levels_to_the_user(inspect.currentframe()),
        )
