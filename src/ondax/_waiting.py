"""Says what is being waited for, where somebody is looking.

A library is silent in batch jobs. At a terminal or in a notebook, whoever waits for longer than a
second wants to know what for: one line on standard error says it. How long it took is logged at
INFO by the logger "ondax", whoever looks.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any

LOG = logging.getLogger("ondax")
PROGRESS = "ONDAX_PROGRESS"
SECONDS = 1.0  # that pass in silence

# Raised for a closed terminal, a pipe that nobody reads, or where there is no standard error.
BROKEN = (OSError, ValueError, AttributeError)


@contextmanager
def waiting(for_what: str) -> Iterator[None]:
    """Within it, something may take long: after a second, a line says what, if `looked_at`.

    Args:
        for_what: as in "building the adjoint kernel".

    Raises:
        ValueError: `ONDAX_PROGRESS` is neither 0 nor 1.
    """
    began = time.monotonic()
    notice = Timer(SECONDS, say, (f"ondax: {for_what} ...", sys.stderr))
    notice.daemon = True
    if looked_at():
        with suppress(RuntimeError):  # no thread can be started: then it is not said
            notice.start()
    try:
        yield
    finally:
        notice.cancel()
    LOG.info("%s took %.1f s", for_what, time.monotonic() - began)


def looked_at() -> bool:
    """Whether somebody is likely to read what is written to standard error: at a terminal, or in a
    notebook. The environment variable ONDAX_PROGRESS decides it otherwise, by 1 or 0.

    Raises:
        ValueError: that variable has another value.
    """
    chosen = os.environ.get(PROGRESS, "")
    if chosen in ("0", "1"):
        return chosen == "1"
    if chosen:
        raise ValueError(
            f"{PROGRESS}={chosen}: give 1, to be told what ondax does that takes longer than a "
            "second, or 0, not to be"
        )
    try:
        return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel.")
    except BROKEN:
        return False


def say(text: str, file: Any = None) -> None:
    """Print a line without breaking a bar that is shown; do nothing if there is no terminal.

    Args:
        text: the line.
        file: where to, open for text; default: standard output.
    """
    with suppress(*BROKEN):
        if _bars_are_shown():
            from tqdm import tqdm

            tqdm.write(text, file=file)
        else:  # without tqdm's lock, which a killed process may have taken with it
            print(text, file=sys.stdout if file is None else file, flush=True)


def _bars_are_shown() -> bool:
    """Is there a progress bar that a line would break? Modelling does without tqdm."""
    module = sys.modules.get("tqdm")
    return module is not None and bool(getattr(module.tqdm, "_instances", ()))
