"""Python, the packages that ondax needs, and JAX."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import jax

from .finding import Finding, in_a_line

# A requirement as ondax states its own: a name, the lowest version, and what asks for it.
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)>=(?P<least>[\d.]+)(?:; extra == '(?P<extra>\w+)')?")
SHOWN_TOO = ("jaxlib", "sympy")
"""Packages that ondax gets by way of others, and whose versions matter in a report of an error."""


def python() -> Iterator[Finding]:
    """The interpreter, the machine, and where ondax lies."""
    system, machine = platform.system(), platform.machine()
    found = f"{platform.python_version()} on {system} {machine}"
    if system == "Windows":
        yield Finding("python", "fail", found, "Windows is not supported: take Linux, or WSL")
    else:
        yield Finding("python", "ok", found)
    yield Finding("ondax", "ok", f"{_version('ondax')} in {Path(__file__).parents[1]}")


def packages() -> Iterator[Finding]:
    """The versions of the packages that ondax needs, against the lowest that it works with."""
    try:
        stated = [REQUIREMENT.fullmatch(line) for line in requires("ondax") or ()]
    except PackageNotFoundError:
        yield Finding(
            "packages",
            "warn",
            "ondax is not installed, only imported: which versions it needs is not known",
            "pip install it, from its folder: pip install .",
        )
        return
    needed = {m["name"]: m["least"] for m in stated if m and m["extra"] is None}
    good = []
    for name, least in needed.items():
        have = _version(name)
        if have is None or _numbers(have) < _numbers(least):
            what = f"{name} {have}, older than {least}" if have else f"{name} is not installed"
            yield Finding("packages", "fail", what, f"pip install --upgrade '{name}>={least}'")
        else:
            good.append(f"{name} {have}")
    good += [f"{name} {_version(name)}" for name in SHOWN_TOO]
    yield Finding("packages", "ok", ", ".join(good))
    plots = {m["name"]: m["least"] for m in stated if m and m["extra"] == "plot"}
    for name, least in plots.items():
        have = _version(name)
        if have is None:
            what = f"no {name}: the demo and ox.plotting need it (pip install 'ondax[plot]')"
            yield Finding("plots", "ok", what)
        elif _numbers(have) < _numbers(least):
            what = f"{name} {have}, older than {least}"
            yield Finding("plots", "warn", what, f"pip install --upgrade '{name}>={least}'")
        else:
            yield Finding("plots", "ok", f"{name} {have}")


def devices() -> Iterator[Finding]:
    """What JAX runs on, and in which precision."""
    chosen = os.environ.get("JAX_PLATFORMS") or os.environ.get("JAX_PLATFORM_NAME")
    try:
        found = jax.devices()
        jax.local_devices(backend="cpu")  # whose memory our kernels read and write
    except Exception as error:  # an AssertionError where the named device has no plugin
        remedy = (
            f"JAX_PLATFORMS={chosen}: unset it, or add cpu to it"
            if chosen
            else "pip install --upgrade jax"
        )
        yield Finding("JAX", "fail", f"it does not start: {in_a_line(error)}", remedy)
        return
    kinds = sorted({d.platform for d in found})
    what = f"{len(found)} {' and '.join(kinds)} device{'s' if len(found) > 1 else ''}"
    if kinds != ["cpu"]:
        what += " (wave equations run on the CPU all the same)"
    if jax.config.read("jax_enable_x64"):
        what += "; float64"
    else:
        what += "; float32 (JAX_ENABLE_X64=1 allows float64)"
    yield Finding("JAX", "ok", what)


def _version(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(stated: str) -> tuple[int, ...]:
    """The numbers that a version begins with, to be compared; zeros at its end mean nothing."""
    beginning = re.match(r"[\d.]*", stated)
    numbers = [int(n) for n in beginning.group().split(".") if n] if beginning else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
