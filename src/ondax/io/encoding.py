"""Samples and text as the bytes of a SEG-Y file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .headers import BINARY_BYTES, IBM, IEEE, TEXT_BYTES, binary_words
from .ibm import to_ibm

FORMATS = {"ieee": IEEE, "ibm": IBM}
EBCDIC = "cp037"
LINES, LINE_LENGTH = 40, 80


def encoded(values: np.ndarray, format: int, order: str) -> np.ndarray:
    """Samples in float32 as bytes, (trace, byte).

    Raises:
        ValueError: IBM floats have no NaN and no infinity.
    """
    words = values.astype(f"{order}f4") if format == IEEE else to_ibm(values).astype(f"{order}u4")
    return words.view(np.uint8).reshape(len(values), -1)


def file_header(text: Mapping[int, str], words: Mapping[str, Any]) -> bytearray:
    """The text and binary headers of a SEG-Y file of revision 1.

    Args:
        text: lines by their numbers, from 1.
        words: of the binary header, by name.
    """
    lines = {39: "SEG Y REV1", 40: "END TEXTUAL HEADER", **text}
    page = "".join(
        f"C{n:2d} {lines.get(n, '')}".ljust(LINE_LENGTH)[:LINE_LENGTH] for n in range(1, LINES + 1)
    )
    head = bytearray(page.encode(EBCDIC) + bytes(BINARY_BYTES))
    binary = np.frombuffer(head, binary_words(">"), 1, TEXT_BYTES)
    for name, value in {"revision": 0x0100, "fixed_length": 1, "measurement": 1, **words}.items():
        binary[name] = value
    return head


def text_of(head: bytes | bytearray) -> list[str]:
    """The lines of a text header, in EBCDIC or ASCII."""
    page = bytes(head[:TEXT_BYTES])
    text = page.decode("latin-1" if page[:1] == b"C" else EBCDIC)
    return [text[n : n + LINE_LENGTH].rstrip() for n in range(0, TEXT_BYTES, LINE_LENGTH)]
