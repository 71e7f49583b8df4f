"""The files that traces of a survey are written to, shot by shot and in any order."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import numpy as np

from ..io.encoding import text_of
from ..io.headers import FIRST_TRACE, TEXT_BYTES
from ..io.shots import created, fingerprints_in
from ..io.write import Made
from ..survey import Survey

MARK = "ONDAX "
MARK_LINE = 3  # of a SEG-Y file's text header


class AbstractTarget(ABC):
    """A file, or a folder, that shots are written to.

    Args:
        survey: whose traces.
        dtype: of the traces.
        fingerprints: of what the traces are of.
    """

    def __init__(self, survey: Survey, dtype: Any, fingerprints: Mapping[str, str]) -> None:
        self.survey, self.dtype, self.fingerprints = survey, np.dtype(dtype), fingerprints

    @abstractmethod
    def check(self) -> None:
        """Refuse what cannot be written.

        Raises:
            ValueError: says why, and the remedy.
        """

    @abstractmethod
    def begin(self, path: Path) -> None:
        """Make it anew, without shots, in place of what is there."""

    @abstractmethod
    def open(self, path: Path) -> None:
        """Open what was begun."""

    @abstractmethod
    def write(self, shot: int, gather: np.ndarray) -> None:
        """Write the traces of a shot, so that they are on the disk."""

    @abstractmethod
    def holds_same(self, path: Path) -> bool:
        """Is a complete file of the same fingerprints there?"""

    def close(self) -> None:
        """Close what was opened."""
        return


@final
class Segy(AbstractTarget):
    """A SEG-Y file: where each shot's traces lie follows from the numbers of its receivers."""

    _handle: int | None = None
    _made: Made

    @property
    def _before(self) -> np.ndarray:
        """Traces before those of each shot."""
        return np.concatenate([[0], np.cumsum(self.survey.points[1].counts)])

    @property
    def _mark(self) -> str:
        text = json.dumps(dict(self.fingerprints), sort_keys=True)
        return MARK + hashlib.blake2b(text.encode(), digest_size=16).hexdigest().upper()

    def check(self) -> None:
        """See `AbstractTarget.check`."""
        self._made = Made.of(self.survey, "ieee")

    def begin(self, path: Path) -> None:
        """See `AbstractTarget.begin`."""
        _removed(path)
        with path.open("wb") as file:
            file.write(self._made.head({MARK_LINE: self._mark}))
            file.truncate(FIRST_TRACE + int(self._before[-1]) * self._made.stride)
            os.fsync(file.fileno())

    def open(self, path: Path) -> None:
        """See `AbstractTarget.open`."""
        self._handle = os.open(path, os.O_WRONLY)
        self._starts = self._before

    def write(self, shot: int, gather: np.ndarray) -> None:
        """See `AbstractTarget.write`."""
        assert self._handle is not None
        before = int(self._starts[shot])
        rows = self._made.rows(shot, gather.astype(np.float32, copy=False), before)
        view, offset = rows.reshape(-1).data, FIRST_TRACE + before * self._made.stride
        while len(view):
            done = os.pwrite(self._handle, view, offset)
            view, offset = view[done:], offset + done
        os.fsync(self._handle)

    def holds_same(self, path: Path) -> bool:
        """See `AbstractTarget.holds_same`."""
        with suppress(OSError, UnicodeDecodeError), path.open("rb") as file:
            lines = text_of(file.read(TEXT_BYTES))
            return len(lines) > MARK_LINE and lines[MARK_LINE - 1].endswith(self._mark)
        return False

    def close(self) -> None:
        """See `AbstractTarget.close`."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@final
class Zarr(AbstractTarget):
    """A zarr group, in which the traces of each shot are one chunk."""

    _folder: Path
    _traces: Any = None

    def check(self) -> None:
        """See `AbstractTarget.check`."""
        from ..io.shots import zarr_or_say

        zarr_or_say()

    def begin(self, path: Path) -> None:
        """See `AbstractTarget.begin`."""
        _removed(path)
        created(path, self.survey, self.dtype, self.fingerprints)

    def open(self, path: Path) -> None:
        """See `AbstractTarget.open`."""
        from ..io.shots import zarr_or_say

        self._folder = path
        self._traces = zarr_or_say().open_group(str(path), mode="r+")["traces"]

    def write(self, shot: int, gather: np.ndarray) -> None:
        """See `AbstractTarget.write`."""
        padded = np.zeros(self._traces.shape[1:], self.dtype)
        padded[..., : gather.shape[-2], :] = gather
        self._traces[shot] = padded
        _on_disk(self._folder / "traces" / "c" / str(shot))

    def holds_same(self, path: Path) -> bool:
        """See `AbstractTarget.holds_same`."""
        return fingerprints_in(path) == dict(self.fingerprints)


KINDS: dict[str, type[AbstractTarget]] = {".zarr": Zarr, ".segy": Segy, ".sgy": Segy}


def _removed(path: Path) -> None:
    """Remove what a former call has left."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _on_disk(folder: Path) -> None:
    """Flush a folder's files."""
    for place, _, names in os.walk(folder):
        for name in names:
            handle = os.open(os.path.join(place, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
