"""What takes long is said where somebody is looking, and nowhere else."""

import io
import logging
import sys
import time
from pathlib import Path

import pytest
from systems import ORDER, mass_form

from ondax import _waiting
from ondax._waiting import looked_at, waiting
from ondax.backends.devito.kernels import Kernels
from ondax.backends.devito.plans import Planned
from ondax.calculus.program import Program
from ondax.scheme.symbols import Symbols


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        super().isatty()  # which a closed one refuses to tell
        return True


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONDAX_PROGRESS", raising=False)
    monkeypatch.setattr(_waiting, "SECONDS", 0.01)


def said(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, expected: bool = True) -> str:
    """What is written to standard error by something that takes long: until something is, or, where
    nothing is expected, ten times as long as it is silent."""
    monkeypatch.setattr(sys, "stderr", stream)
    end = time.monotonic() + (30.0 if expected else 0.1)
    with waiting("doing it"):
        while not stream.getvalue() and time.monotonic() < end:
            time.sleep(0.005)
    return stream.getvalue()


@pytest.mark.slow
def test_at_a_terminal_it_is_said(monkeypatch: pytest.MonkeyPatch):
    assert said(Terminal(), monkeypatch) == "ondax: doing it ...\n"


def test_in_a_batch_job_it_is_not(monkeypatch: pytest.MonkeyPatch):
    assert said(io.StringIO(), monkeypatch, expected=False) == ""


@pytest.mark.slow
def test_a_notebook_is_looked_at(monkeypatch: pytest.MonkeyPatch):
    """Whose standard error is no terminal, but an object of ipykernel's."""
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    assert said(stream, monkeypatch) == "ondax: doing it ...\n"


@pytest.mark.slow
@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False)])
def test_a_variable_decides(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_PROGRESS", value)
    stream = io.StringIO() if expected else Terminal()
    assert bool(said(stream, monkeypatch, expected)) == expected


def test_its_other_values_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_PROGRESS", "yes")
    with pytest.raises(ValueError, match="ONDAX_PROGRESS=yes: give 1.*or 0"):
        looked_at()


def test_no_standard_error_and_a_closed_one(monkeypatch: pytest.MonkeyPatch):
    closed = Terminal()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        assert not looked_at()
    monkeypatch.setenv("ONDAX_PROGRESS", "1")
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        with waiting("doing it"):
            time.sleep(0.05)  # a thread that fails would be an error of the test


def test_what_is_soon_done_is_not_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_waiting, "SECONDS", 60.0)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with waiting("doing it"):
        pass
    assert stream.getvalue() == ""


def test_it_is_logged_with_its_time(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "ondax"), waiting("doing it"):
        pass
    (record,) = caplog.records
    assert record.getMessage() == "doing it took 0.0 s"


@pytest.mark.slow
def test_kernels_that_are_built_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_waiting, "SECONDS", 0.0)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    program = Program(mass_form(Symbols(1, ORDER, "float64")))
    Kernels(Planned.of(program)).forward(None, parallel=False)
    assert stream.getvalue().startswith("ondax: building the forward kernel")
