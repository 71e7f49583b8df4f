"""Exceptions of host calls as they were: JAX makes errors of its own from them, forty lines long.

What fails inside a callback is noted here, and raised again, with its own type, where the call into
JAX was ours: in eager calls, `fwi` and `lsrtm`. Inside a program compiled by the user it stays
JAX's error, in whose text ours is to be found.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from .. import _forks
from ..backends import interrupts

_noted: deque[tuple[int, BaseException]] = deque(
    maxlen=64
)  # numbered; more than threads that fail at once
_numbers = count()
_lock = _forks.lock()
FORWARD = "can't apply forward-mode autodiff (jvp) to a custom_vjp function"  # JAX's words
FORWARD_REMEDY = (
    "forward-mode differentiation (jvp, jacfwd, linearize, hessian) does not go through F, which "
    "has a gradient of its own for reverse mode (grad, vjp, jacrev): use its twin "
    "F.forward_mode(), or F.jvp(model, perturbation), F.jacobian(model).mv(perturbation), ox.hvp"
)
THIRD = (
    "third derivatives are not available: second ones, by ox.hvp, jax.hessian, or as derivatives "
    "of F.jvp and of F.jacobian(model).mv, are linear in what was differentiated by, and in that "
    "only; keep all else fixed by jax.lax.stop_gradient"
)
FILTERED = "JAX has removed its internal frames"  # a note that JAX adds to every exception


def note(error: BaseException, eager: bool) -> None:
    """Remember what a host call is about to raise, without what its frames hold."""
    if error.__traceback__ is not None:
        traceback.clear_frames(error.__traceback__)
    with _lock:
        _noted.append((next(_numbers), error))
    if isinstance(error, KeyboardInterrupt) and not (eager or interrupts.heard_here()):
        interrupts.again()


@contextmanager
def as_raised(presses: int = 1) -> Iterator[None]:
    """Within it, exceptions of host calls come as they were raised, and Ctrl-C, pressed so many
    times, ends shots that run.

    Args:
        presses: of Ctrl-C.
    """
    began = next(_numbers)
    try:
        with interrupts.listening(presses):
            yield
    except Exception as error:
        ours = _of(error, began)
        if ours is None:
            _drop_note(error)
            if FORWARD in str(error):
                raise TypeError(FORWARD_REMEDY) from None
            raise
    else:
        return
    raise ours.with_traceback(None) from None


def _of(error: Exception, began: int) -> BaseException | None:
    """The exception of a host call that JAX made an error from, since a call began; None for an
    error of anybody else."""
    said = str(error)
    if "Traceback (most recent call last)" not in said:  # JAX quotes the whole of it
        return None
    with _lock:
        for entry in reversed(_noted):
            number, ours = entry
            if number > began and type(ours).__name__ in said and str(ours) in said:
                _noted.remove(entry)
                return ours
    return None


def _drop_note(error: Exception) -> None:
    """JAX's note on its frames comes after our line, and says nothing of it."""
    if hasattr(error, "__notes__"):
        error.__notes__ = [n for n in error.__notes__ if FILTERED not in n]
