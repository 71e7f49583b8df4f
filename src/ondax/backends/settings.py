"""How the engine runs: threads, memory, sampling of the history."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh

from ..histories.base import AbstractHistory
from ..histories.named import named

BACKENDS = ("auto", "devito", "xla")
SHOTS = "shots"  # the axis of a mesh along which shots are shared out
MESH_AXES = ("x", "y", "z", SHOTS)
MEMORY_SHARE = 0.5  # of the machine's memory, unless a budget is given


def _whole(name: str, value: Any) -> Any:
    """A whole number of at least 1, also as `8e9` or in a type of NumPy's; None stays."""
    if value is None:
        return None
    number = value if isinstance(value, (int, float)) else getattr(value, "item", lambda: None)()
    if (
        isinstance(number, bool)
        or not isinstance(number, (int, float))
        or number != number // 1
        or number < 1
    ):
        raise ValueError(f"{name}={value!r}: give a whole number of at least 1")
    return int(number)


class Settings(eqx.Module):
    """How wave equations are run. None of it changes what is calculated, but histories that are not
    kept whole: "sampled" changes gradients by 1e-6 of their size, "half" by some 1e-5 (below is
    when by more), and ways of your own by what they lose.

    Attributes:
        threads: worker threads; default: the cores this process may use. Shots run side by side,
            one thread each; several threads share a shot only when there are fewer shots than
            threads.
        memory: bytes that wavefield histories may take; default: half of the machine's memory (or
            of the container's limit). What does not fit is recomputed, and a history that does not
            fit alone is checkpointed, with the same gradient to rounding.
        backend: what runs the equations. "devito": C kernels, on processors. "xla": XLA, wherever
            JAX runs, as a part of the program that calls it. "auto": "devito" where JAX's default
            backend is the CPU, else "xla"; with a mesh, "xla".
        checks: whether models, wavelets, positions and results are checked when shots are fired.
            The C kernels always check. Without checks, "xla" asks nothing of the host: where a
            model is too fast or too slow, or a wavefield grows beyond all bounds, all results are
            NaN.
        history: how histories are kept.

            - "auto": whole where `memory` allows, else computed anew from checkpoints (Griewank and
              Walther, 2000). `F.cost().chosen` tells which; states that `ox.fwi` saves hold it.
            - "whole": whole, or not at all.
            - "revolve": always computed anew, in the least memory.
            - "disk": whole, in files in `folder`, written while the run goes on and read ahead of
              the run that needs them. In memory are some steps of each shot that runs.
            - "revolve disk": as "revolve", with further checkpoints in files in `folder`, so that a
              gradient takes three wave solves in little memory (Stumm and Walther, 2009).
            - "sampled": as "auto", but every k-th step only, with the largest k that the survey's
              wavelets allow: see `store_every`. Wavelets that are given with a call and allow less
              have all of their steps kept.
            - "half": as "auto", but in 16 bits a value: half of the memory. Each step has a power
              of two of its own, and values keep 11 significant bits. Errors of many values
              average out: gradients change by some 1e-5 of their size, by 1e-4 where the traces'
              cotangents are noise, and by up to 5e-3 if little of that noise is in the wavelet's
              band, or the wavelet ends abruptly. Born modelling and migration
              (`F.jacobian`) read the same rounded values, so that they are each other's transpose
              to rounding.
            - "sampled half": both. What is rounded is by how much a field changes in k steps, so
              that more is lost than with "half" alone: gradients change by 1e-5 to 5e-4 of their
              size, and by up to 1e-2 where the traces' cotangents are noise, most of which is not
              in the wavelet's band.
            - an object of your own, an `AbstractHistory`.

        store_every: keep every k-th step of the history, k = `store_every`. Gradients are the same
            to 1e-6 of their size, everywhere, also where the traces' cotangents are noise, because
            wavefields are band-limited in time: what wavelets are too high in frequency for is
            refused, with the largest k that they allow. Cotangents that have next to nothing in
            the wavelets' band, such as constant ones, have gradients that are small themselves:
            these change by 1e-6 of what other cotangents of their size give. Of a Ricker wavelet, k
            internal steps may be a tenth of the period of its peak frequency; the wavelets must
            begin and end smoothly. Runs go on for up to 14 k internal steps beyond the record. Kept
            of a step is what its gradient reads: with `Acoustic` one array, so that the history
            takes a k-th of the memory; with the other equations two values of each field, so that
            it takes two k-ths, and with k = 2 every step is kept. Sampled are the gradients of `F`
            and `F.jvp`, and so `ox.hvp`, in the model; those in wavelets, positions and weights,
            Born modelling and migration (`F.jacobian`), and the gradients of `F.adjoint`, are from
            every step.

        folder: where histories on a disk are written; default: the system's folder for temporary
            files (`TMPDIR`). A relative path is made absolute when the settings are made. Take one
            on a fast disk of this machine: where the default is in memory, as it is on some
            systems, nothing is saved by "disk". Files have no names, so
            that the system frees their room when they are not needed any more, or the process ends,
            in whatever way.
        mesh: the devices that share each shot, a `jax.sharding.Mesh` whose axes are named after
            those of the grid that are cut into parts, "x", "y" or "z"; along an axis "shots",
            shots are shared out. Each device then has its part of wavefields, histories and
            gradients, and neighbours exchange what stencils read; `memory` is that of one device
            (default: half of the machine's memory, over the number of devices). Results are the
            same to rounding. For "xla" only. Without a mesh, shots are shared out by sharding
            `shots=` of a call: see the page on devices.

    Raises:
        ValueError: a value out of its range, or two that contradict each other.
    """

    threads: int | None = eqx.field(static=True, default=None, converter=partial(_whole, "threads"))
    memory: int | float | None = eqx.field(
        static=True, default=None, converter=partial(_whole, "memory")
    )
    store_every: int | None = eqx.field(
        static=True, default=None, converter=partial(_whole, "store_every")
    )
    history: str | AbstractHistory = eqx.field(static=True, default="auto")
    folder: str | None = eqx.field(
        static=True, default=None, converter=lambda f: None if f is None else os.path.abspath(f)
    )
    backend: str = eqx.field(static=True, default="auto")
    checks: bool = eqx.field(static=True, default=True)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        named(self.history, self.store_every, folder=self.folder)
        if self.backend not in BACKENDS:
            names = ", ".join(map(repr, BACKENDS))
            raise ValueError(f"backend={self.backend!r}: choose one of {names}")
        if self.mesh is not None:
            _check_mesh(self.mesh, self.backend)

    def __reduce__(self) -> Any:
        """Devices cannot be pickled, but their numbers can."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        mesh = values.pop("mesh")
        if mesh is None:
            return _remade, (values, None)
        numbers = np.vectorize(lambda device: device.id, otypes=[int])(mesh.devices)
        return _remade, (values, (numbers, mesh.axis_names, mesh.axis_types))

    def runs_on(self, platform: str) -> str:
        """What runs the equations where JAX's default backend is this one."""
        if self.backend == "auto" and self.mesh is not None:
            return "xla"
        if self.backend == "auto":
            return "devito" if platform == "cpu" else "xla"
        return self.backend

    @property
    def worker_threads(self) -> int:
        return self.threads or available_cores()

    @property
    def memory_budget(self) -> int:
        devices = 1 if self.mesh is None else self.mesh.size
        return int(self.memory or MEMORY_SHARE * machine_memory() / devices)

    def lent(self, threads: int, memory: int) -> Settings:
        """The same for a process that lends shots so many threads, and so many bytes for histories
        at most."""
        return dataclasses.replace(self, threads=threads, memory=min(memory, self.memory or memory))


def _remade(values: dict[str, Any], mesh: Any) -> Settings:
    """Settings from a pickle; of a mesh, the devices of the same numbers."""
    if mesh is None:
        return Settings(**values)
    numbers, names, types = mesh
    by_number = {device.id: device for device in jax.devices()}
    devices = np.empty(numbers.shape, object)
    for index, number in np.ndenumerate(numbers):
        if int(number) not in by_number:
            raise ValueError(
                f"these settings have a mesh of {numbers.size} devices, but of {len(by_number)} "
                f"here none has the number {number}"
            )
        devices[index] = by_number[int(number)]
    return Settings(**values, mesh=Mesh(devices, names, axis_types=types))


def _check_mesh(mesh: Any, backend: str) -> None:
    """Raises `TypeError` or `ValueError` for a mesh that no problem can be run on."""
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"mesh={mesh!r}: give a jax.sharding.Mesh, for example Mesh(jax.devices(), ('x',))"
        )
    unknown = [name for name in mesh.axis_names if name not in MESH_AXES]
    if unknown:
        raise ValueError(
            f"mesh with axes {mesh.axis_names}: {unknown[0]!r} is none of {MESH_AXES}; name each "
            f"axis after the grid's axis that it cuts, or {SHOTS!r} for that of the shots"
        )
    if backend == "devito":
        raise ValueError(
            f"backend='devito' with a mesh of {mesh.size} devices: C kernels run on one machine's "
            "processor; take backend='xla', or leave mesh away"
        )


def available_cores() -> int:
    """Cores whose time this process may use: those that it may run on (its affinity), or as many
    whole ones as its cgroups grant it, where these are fewer. More threads than that would be
    stopped for a part of each period."""
    allowed = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    granted = cores_of_groups()
    return allowed if granted is None else min(allowed, max(1, int(granted)))


@cache
def cores_of_groups(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> float | None:
    """How many cores' time the cgroups of this process grant it (`docker --cpus`, for example),
    whatever the number of cores that it may run on; None if they do not say."""
    granted = []
    for folder in _folders_of_groups(groups, root, "cpu"):
        with suppress(OSError, ValueError):  # not there, or "max"
            quota, period = (folder / "cpu.max").read_text().split()
            granted.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota = int((folder / "cpu.cfs_quota_us").read_text())
            if quota > 0:  # -1: no limit
                granted.append(quota / int((folder / "cpu.cfs_period_us").read_text()))
    return min(granted, default=None)


@cache
def machine_memory() -> int:
    """Physical memory in bytes, or what this process may use of it where that is less: the limits
    of its cgroups (containers, SLURM, systemd) and its own (ulimit -v). Asked once a process, so
    that results do not follow what is free."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(
        [
            physical,
            *_limits_of_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")),
            *_own_limits(),
        ]
    )


def _limits_of_groups(groups: Path, root: Path) -> Iterator[int]:
    """Those of memory of all groups that this process is in; see `_folders_of_groups`."""
    for folder in _folders_of_groups(groups, root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # of versions 2 and 1
            with suppress(OSError, ValueError):  # not there, or "max"
                yield int((folder / name).read_text())


def _folders_of_groups(groups: Path, root: Path, kind: str) -> set[Path]:
    """Where the limits stand of all groups that this process is in, up to the root. In a
    container, its own group looks like the root.

    Args:
        groups: which they are: lines `0::/path` (version 2) or `5:memory:/path` (version 1).
        root: where they are mounted.
        kind: of limits: "memory" or "cpu".
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        lines = []
    found = {root, root / kind}
    for line in lines:
        _, kinds, path = line.split(":", 2)
        base = root / kind if kinds else root
        if not kinds or kind in kinds.split(","):
            group = base / path.lstrip("/")
            found |= {
                parent for parent in (group, *group.parents) if base in (parent, *parent.parents)
            }
    return found


def _own_limits() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft
