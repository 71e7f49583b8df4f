"""Where the words of SEG-Y and SU headers lie, and how a file of them is laid out.

Sources: SEG-Y revision 1 (SEG Technical Standards Committee, 2002), tables 2 and 3; `segy.h` of
Seismic Un*x (Cohen and Stockwell), of which the first 180 bytes of a trace header are the same.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

TEXT_BYTES, BINARY_BYTES, TRACE_HEADER_BYTES = 3200, 400, 240
FIRST_TRACE = TEXT_BYTES + BINARY_BYTES

# Words of a trace header that are read: first byte, counted from 1 as the standard does, and type.
# Samples and interval are unsigned, as long records need it and most programs write it.
WORDS = {
    "field_record": (9, "i4"),
    "trace_number": (13, "i4"),
    "source_point": (17, "i4"),
    "identification": (29, "i2"),
    "receiver_elevation": (41, "i4"),
    "source_elevation": (45, "i4"),
    "source_depth": (49, "i4"),
    "elevation_scalar": (69, "i2"),
    "coordinate_scalar": (71, "i2"),
    "source_x": (73, "i4"),
    "source_y": (77, "i4"),
    "receiver_x": (81, "i4"),
    "receiver_y": (85, "i4"),
    "coordinate_units": (89, "i2"),
    "delay": (109, "i2"),
    "samples": (115, "u2"),
    "interval": (117, "u2"),
    "time_scalar": (215, "i2"),
}
# Others that are only written.
WRITTEN = WORDS | {
    "trace_of_line": (1, "i4"),
    "trace_of_file": (5, "i4"),
    "ensemble": (21, "i4"),
    "ensemble_trace": (25, "i4"),
    "offset": (37, "i4"),
    "ensemble_x": (181, "i4"),
    "ensemble_y": (185, "i4"),
    "inline": (189, "i4"),
    "crossline": (193, "i4"),
}
BINARY_WORDS = {
    "traces": (3213, "u2"),
    "interval": (3217, "u2"),
    "samples": (3221, "u2"),
    "format": (3225, "i2"),
    "sorting": (3229, "i2"),
    "measurement": (3255, "i2"),
    "revision": (3501, "u2"),
    "fixed_length": (3503, "i2"),
    "extended_texts": (3505, "i2"),
}

# Codes of the samples' format in the binary header.
IBM, IEEE = 1, 5
SAMPLE_TYPES = {
    IBM: "u4",  # read as bits, and converted
    2: "i4",
    3: "i2",
    IEEE: "f4",
    6: "f8",
    8: "i1",
    10: "u4",
    11: "u2",
    16: "u1",
}

# Trace identification codes (byte 29).
DEAD = 2
AUXILIARY = (3, 4, 5, 6, 7, 8, 9, 10, 18, 19, 20, 21, 22)  # sweeps, time breaks, gun signatures ...
FEET = 2  # the measurement system's code
METRES_OF_A_FOOT = 0.3048
LENGTHS = (0, 1)  # codes of coordinate units that are lengths; others are angles, which go up to:
ANGLES = {2: 3600.0 * 180.0, 3: 360.0, 4: 1e4 * 360.0}  # seconds, degrees, DDDMMSS
COMPONENTS = (11, 12, 13, 14, 15, 16, 17)  # pressure; vertical, cross-line, in-line; and so on


def trace_words(order: str, words: dict[str, tuple[int, str]] = WORDS) -> np.dtype:
    """The structured type of a trace header, in a byte order, ">" or "<"."""
    return _structure(words, order, 1, TRACE_HEADER_BYTES)


def binary_words(order: str) -> np.dtype:
    """The structured type of the binary header."""
    return _structure(BINARY_WORDS, order, TEXT_BYTES + 1, BINARY_BYTES)


def _structure(words: dict[str, tuple[int, str]], order: str, first: int, size: int) -> np.dtype:
    return np.dtype(
        {
            "names": list(words),
            "formats": [order + kind for _, kind in words.values()],
            "offsets": [byte - first for byte, _ in words.values()],
            "itemsize": size,
        }
    )


class Layout(NamedTuple):
    """How the traces lie in a file.

    Attributes:
        path: absolute.
        size: of the file, bytes.
        modified: when it was last written, ns, as the system counts it.
        first: byte of the first trace header.
        samples: of a trace.
        traces: how many.
        format: the samples' code in SEG-Y's binary header.
        order: of bytes, ">" or "<".
        su: the file is of Seismic Un*x, without a file header.
    """

    path: str
    size: int
    modified: int
    first: int
    samples: int
    traces: int
    format: int
    order: str
    su: bool

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def stride(self) -> int:
        """Bytes from one trace header to the next."""
        return TRACE_HEADER_BYTES + self.samples * np.dtype(SAMPLE_TYPES[self.format]).itemsize

    def check(self, status: os.stat_result) -> None:
        """Check that a file is still the one that was scanned.

        Raises:
            ValueError: its size or its time of modification is another.
        """
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified):
            raise ValueError(
                f"{self.path} has changed since its headers were read (then {self.size} bytes, now "
                f"{status.st_size}): scan it again, ox.io.scan(...)"
            )
