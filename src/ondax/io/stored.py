"""Catalogues that were saved: opened again without reading the headers anew."""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any

import numpy as np

from .._files import replacing
from .catalogue import Line, Traces
from .headers import Layout
from .mapped import mapped

VERSION = 1


def save(line: Line, path: Any) -> None:
    """See `Line.save`."""
    state = line.__getstate__()
    about = {
        "version": VERSION,
        "files": [layout._asdict() for layout in line.files],
        "nt": line.nt,
        "dt": line.dt,
        "unplaced": state["_unplaced"],
        "notices": line.notices,
    }
    arrays: dict[str, Any] = {
        **{f"trace_{name}": values for name, values in line.traces._asdict().items()},
        "starts": state["_starts"],
        "about": np.array(json.dumps(about)),
    }
    with replacing(path) as file:
        np.savez(file, **arrays)


def load(path: str | os.PathLike[str]) -> Line:
    """Open a catalogue that `Line.save` wrote. What it says of each trace stays in its file, and is
    read when it is needed: of ten million traces, that is 1 GB.

    Args:
        path: of the catalogue. The seismic files must be where they were when it was saved.

    Raises:
        FileNotFoundError: no such catalogue.
        ValueError: no catalogue; or a seismic file is missing, or has changed since the scan.
    """
    try:
        arrays = mapped(path)
        about = json.loads(str(arrays["about"]))
        if about["version"] != VERSION:
            raise ValueError(f"it is of version {about['version']}, not {VERSION}")
        traces = Traces(*(arrays[f"trace_{name}"] for name in Traces._fields))
        starts = np.array(arrays["starts"])
    except FileNotFoundError:
        raise
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{os.fspath(path)} is no catalogue that Line.save wrote ({error}): scan the files "
            "again, ox.io.scan(...)"
        ) from error
    files = tuple(Layout(**layout) for layout in about["files"])
    for layout in files:
        try:
            status = os.stat(layout.path)
        except FileNotFoundError:
            raise ValueError(
                f"{layout.path}, which the catalogue {os.fspath(path)} is of, is missing: put it "
                "back, or scan again where the files are now, ox.io.scan(...)"
            ) from None
        layout.check(status)
    return Line._made(
        files,
        traces,
        starts,
        nt=about["nt"],
        dt=about["dt"],
        unplaced=about["unplaced"],
        notices=about["notices"],
    )
