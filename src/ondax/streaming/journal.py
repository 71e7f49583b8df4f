"""Which shots of a file are written, in a file beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from .._files import NOFOLLOW, replacing

VERSION = 1


class Journal:
    """The numbers of the shots that are on the disk, one a line: a line without an end was being
    written when the process ended, and does not count. Its first line says whose they are.

    Args:
        path: of the journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def read(self) -> tuple[Mapping[str, str] | None, set[int]]:
        """The fingerprints of what the shots are of, and the shots; None and nothing if there is no
        journal, or none that can be read."""
        try:
            first, *lines = self.path.read_bytes().split(b"\n")[:-1]
            head = json.loads(first)
            if head["version"] != VERSION:
                return None, set()
            return head["problem"], {int(line) for line in lines if line.isdigit()}
        except (OSError, ValueError, KeyError, TypeError):
            return None, set()

    def begin(self, fingerprints: Mapping[str, str]) -> None:
        """Make a journal without shots."""
        with replacing(self.path) as file:
            head = {"version": VERSION, "problem": dict(fingerprints)}
            file.write(json.dumps(head).encode() + b"\n")

    def add(self, shots: Iterable[int]) -> None:
        """Note shots that are on the disk."""
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDWR | os.O_APPEND | NOFOLLOW)
            self._end_the_last_line()
        os.write(self._handle, b"".join(b"%d\n" % shot for shot in shots))
        os.fsync(self._handle)

    def _end_the_last_line(self) -> None:
        """Cut off a line that was being written when a process ended."""
        assert self._handle is not None
        content = self.path.read_bytes()
        os.ftruncate(self._handle, content.rfind(b"\n") + 1)

    def remove(self) -> None:
        """The file is complete."""
        self.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
