"""Models as SEG-Y files: a trace for each column, downwards."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from .._validate import shape as check_shape
from ..grid import Grid
from .encoding import file_header, text_of
from .headers import WRITTEN, trace_words
from .layout import head_of, layout_of
from .notices import give
from .reading import samples

LARGEST = 65535
COLUMNS = 1 << 12  # that are written at a time
MILLIMETRES = 1000
AXIS = re.compile(r"AXIS (\d) HAS (\d+) POINTS FROM (\S+) M, (\S+) M APART")
FIRST_LINE = 4  # of the text header that tells an axis


def model_parts(model: Any, grid: Grid, format: int) -> Any:
    """File header, parts of headers and samples, and byte order of a model's file.

    Raises:
        ValueError: the model has another shape than the grid; or too many points in depth.
    """
    if isinstance(model, Mapping):
        raise ValueError(
            f"a file holds one parameter: write those of {', '.join(sorted(model))} one by one"
        )
    values = np.asarray(model)
    check_shape("traces", values, grid.shape)
    if np.iscomplexobj(values):
        raise ValueError("the model is complex: write its real and imaginary parts")
    *_, depth = grid.shape
    if depth > LARGEST:
        raise ValueError(f"the grid has {depth} points in depth: a trace has {LARGEST} at most")
    interval = round(MILLIMETRES * grid.spacing[-1])
    if not 1 <= interval <= LARGEST:
        give(
            [
                f"a spacing of {grid.spacing[-1]:g} m in depth does not fit into the word of the "
                "sampling interval, in mm, which is 0: only the text header tells it"
            ]
        )
        interval = 0
    axes = zip(grid.shape, grid.origin, grid.spacing, strict=True)
    text = {
        1: "MODEL WRITTEN BY ONDAX: A TRACE FOR EACH COLUMN, DOWNWARDS",
        2: "THE SAMPLING INTERVAL IS THE SPACING IN DEPTH, MM. DEPTH IS THE LAST AXIS",
        **{
            FIRST_LINE + n: f"AXIS {n} HAS {count} POINTS FROM {origin!r} M, {spacing!r} M APART"
            for n, (count, origin, spacing) in enumerate(axes)
        },
    }
    head = file_header(text, {"samples": depth, "interval": interval, "format": format})
    return head, _columns(values.reshape(-1, depth), grid, interval), ">"


def _columns(
    values: np.ndarray, grid: Grid, interval: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Headers and samples of columns, some at a time."""
    farthest = max((abs(end) for ends in grid.extent[:-1] for end in ends), default=0.0)
    scalar = next((n for n in (1000, 100, 10, 1) if n * farthest < 2**31), 1)
    for first in range(0, len(values), COLUMNS):
        some = np.arange(first, min(first + COLUMNS, len(values)))
        headers = np.zeros(len(some), trace_words(">", WRITTEN))
        headers["trace_of_line"] = headers["trace_of_file"] = headers["ensemble"] = some + 1
        headers["identification"] = headers["coordinate_units"] = headers["ensemble_trace"] = 1
        headers["coordinate_scalar"] = -scalar if scalar > 1 else 1
        headers["samples"], headers["interval"] = values.shape[1], interval
        places = np.unravel_index(some, grid.shape[:-1]) if grid.ndim > 1 else ()
        for axis, word, n, o, h in zip(
            "xy", ("inline", "crossline"), places, grid.origin, grid.spacing, strict=False
        ):
            headers[word] = n + 1
            at = np.rint(scalar * (o + h * n))
            for name in (f"source_{axis}", f"receiver_{axis}", f"ensemble_{axis}"):
                headers[name] = at
        yield headers, values[some].astype(np.float32)


def read_model(path: str | os.PathLike[str]) -> tuple[Float32[np.ndarray, "..."], Grid]:
    """Read a model that `ox.io.write_segy(path, model, grid=grid)` wrote.

    Args:
        path: of the file.

    Returns:
        The model, (x[, y], z), to the bit if it was written in IEEE floats; and its grid.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that was not written so, or that is cut off.
    """
    said: list[str] = []
    layout, _ = layout_of(os.fspath(path), "auto", said)
    lines = [] if layout.su else text_of(head_of(layout))
    axes = [match.groups() for match in map(AXIS.search, lines) if match]
    if not axes:
        raise ValueError(
            f"{os.fspath(path)} does not say what grid it is on, as files of write_segy(..., "
            "grid=grid) do in their text header: read its traces by ox.io.scan(path) and make a "
            "grid, ox.Grid(shape, spacing, origin)"
        )
    shape = [int(count) for _, count, _, _ in axes]
    grid = Grid(shape, [float(h) for *_, h in axes], [float(o) for _, _, o, _ in axes])
    if (layout.traces, layout.samples) != (int(np.prod(shape[:-1])), shape[-1]):
        raise ValueError(
            f"{layout.path} has {layout.traces} traces of {layout.samples} samples, but its text "
            f"header tells of a grid {grid.shape}: it was changed after it was written"
        )
    numbers = np.arange(layout.traces)
    return samples([layout], np.zeros_like(numbers), numbers).reshape(grid.shape), grid
