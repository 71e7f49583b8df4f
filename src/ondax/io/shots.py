"""Traces of a survey in a zarr group, a chunk for each shot."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..survey import Survey

VERSION = 1


def zarr_or_say() -> Any:
    """The package zarr.

    Raises:
        ImportError: says how to install it.
    """
    try:
        import zarr
    except ImportError as error:
        raise ImportError('files that end in .zarr need zarr: pip install "ondax[zarr]"') from error
    return zarr


def created(path: Path, survey: Survey, dtype: Any, fingerprints: Mapping[str, str]) -> None:
    """Make a group for the traces of a survey, with positions and times.

    Args:
        path: of the group.
        survey: whose traces.
        dtype: of the traces.
        fingerprints: of what the traces are of.
    """
    group = zarr_or_say().create_group(str(path))
    shape = survey.trace_shape(survey.n_shots)
    group.create_array("traces", shape=shape, dtype=np.dtype(dtype), chunks=(1, *shape[1:]))
    for name, points in zip(("sources", "receivers"), survey.points, strict=True):
        if name == "receivers" or not survey.extended:
            group.create_array(f"{name}_positions", data=points.rows)
            counts = np.array([len(points.rows)]) if points.shared else points.counts
            starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            group.create_array(f"{name}_starts", data=starts)
    group.attrs.update(
        {
            "version": VERSION,
            "dt": survey.dt,
            "start": survey.start,
            "nt": survey.nt,
            "fingerprints": dict(fingerprints),
        }
    )


def fingerprints_in(path: Path) -> dict[str, str] | None:
    """The fingerprints of what a group's traces are of; None if it is no such group."""
    try:
        return dict(zarr_or_say().open_group(str(path), mode="r").attrs["fingerprints"])
    except (KeyError, TypeError, ValueError, OSError):
        return None


@final
class Shots:
    """The traces of a survey in a zarr group that `ox.model` wrote; `ox.io.open_shots` opens it.

    They stay on the disk until they are asked for: `shots[3]` gives the gather of a shot,
    ([component,] receiver, time), and `shots[numbers]` those of some shots, a list. So it can be
    given as `observed` to `ox.rtm`, `ox.fwi` and `ox.Objective`.

    Attributes:
        path: of the group, absolute: the object may be sent to a process in another folder.
        nt: samples of a trace.
        dt: sampling interval, s.
        start: time of the first sample, s.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))
        self._open()

    def _open(self) -> None:
        try:
            group = zarr_or_say().open_group(str(self.path), mode="r")
            about = dict(group.attrs)
            if about["version"] != VERSION:
                raise ValueError(f"it is of version {about['version']}, not {VERSION}")
            self.nt, self.dt, self.start = about["nt"], about["dt"], about["start"]
            self._traces = group["traces"]
            self._points = {
                name: (group[f"{name}_positions"][:], group[f"{name}_starts"][:])
                for name in ("sources", "receivers")
            }
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} is not there; what ox.model has not finished ends in .part: make the "
                "same call again"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path} holds no traces that ox.model wrote ({error})"
            ) from error

    def __reduce__(self) -> Any:
        return Shots, (self.path,)

    def __len__(self) -> int:
        return self._traces.shape[0]

    def __repr__(self) -> str:
        return f"Shots({str(self.path)!r}: {len(self)} shots of {self.nt} samples)"

    def _within(self, name: str, shot: int) -> np.ndarray:
        rows, starts = self._points[name]
        return rows if len(starts) == 2 else rows[starts[shot] : starts[shot + 1]]

    @property
    def sources(self) -> list[Float[np.ndarray, "source axis"]]:
        """Positions of each shot's sources, m."""
        return [self._within("sources", n) for n in range(len(self))]

    @property
    def receivers(self) -> list[Float[np.ndarray, "receiver axis"]]:
        """Positions of each shot's receivers, m."""
        return [self._within("receivers", n) for n in range(len(self))]

    def survey(self, wavelet: ArrayLike, **kinds: Any) -> Survey:
        """The survey of these traces.

        Args:
            wavelet: source samples, as for `Survey`, at the traces' sampling interval.
            **kinds: `source`, `receiver`, `wavelet_start` and `trace_weights` of `Survey`.

        Raises:
            ValueError: as for `Survey`.
        """
        given = {"nt": self.nt, "start": self.start, **kinds}
        return Survey(self.sources, self.receivers, wavelet, self.dt, **given)

    def __getitem__(self, shots: Any) -> Any:
        """The gather of a shot, ([component,] receiver, time); or for a slice or numbers of shots a
        list.

        Raises:
            IndexError: there is no such shot.
        """
        chosen = np.arange(len(self))[shots]
        gathers = [
            np.asarray(self._traces[int(n)])[..., : len(self._within("receivers", int(n))), :]
            for n in np.atleast_1d(chosen)
        ]
        return gathers[0] if np.ndim(chosen) == 0 else gathers

    def stamp(self) -> str:
        """A text that changes when the traces do, found without reading them: of the sizes of
        files, and when they were last written."""
        digest = hashlib.blake2b(digest_size=16)
        for file in sorted(path for path in self.path.rglob("*") if path.is_file()):
            status = file.stat()
            name = file.relative_to(self.path).as_posix()
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def open_shots(path: str | os.PathLike[str]) -> Shots:
    """Open the zarr group that `ox.model(F, model, out="shots.zarr")` wrote.

    Args:
        path: of the group.

    Raises:
        FileNotFoundError: there is no such group.
        ImportError: zarr is not installed.
        ValueError: it is another group.
    """
    return Shots(path)
