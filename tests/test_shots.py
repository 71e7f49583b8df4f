"""Shots that differ in domain, clock and points, run together, give what each gives alone: another
room may say where the shots of a call are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from problems import dot, norm
from slow import slow
from systems import FASTEST, SPONGE, Rig, mass_form

import ondax as ox
from ondax.backends.base import Asked, Experiment
from ondax.backends.clock import Clock
from ondax.backends.devito.plans import Planned
from ondax.backends.devito.solver import Solver
from ondax.backends.setups import AbstractSetups, Alike, Setup
from ondax.boundaries.base import Conditions
from ondax.calculus.program import Program
from ondax.histories.base import Recording
from ondax.scheme.symbols import Symbols

SHAPE = (11, 15)  # of a shot's domain, within one of (17, 15)
STARTS = ((0, 0), (4, 0), (6, 0), (1, 0))
STEPS = (36, 30, 36, 24)
SOURCES, RECEIVERS = (2, 1, 2, 1), (3, 1, 2, 4)


class Apart(AbstractSetups):
    """Four shots, none like another."""

    shots, sources, receivers = 4, max(SOURCES), max(RECEIVERS)

    def __init__(self, rig: Rig) -> None:
        self.rig, plan = rig, rig.solver.plan
        spacing, conditions = rig.domain.spacing, Conditions(0.0, FASTEST, 1.0, 1.0)
        profiles = SPONGE.profiles(plan, SHAPE, spacing, conditions)
        self.domain = replace(rig.domain, shape=SHAPE, profiles=profiles)

    def of(self, position: tuple[int, ...], shot: int) -> Setup:
        moved = np.array(STARTS[shot]) * self.domain.spacing
        origin = np.array(self.domain.origin) + moved
        rng = np.random.default_rng(shot)
        extent = (np.array(SHAPE) - 1) * self.domain.spacing

        def points(count: int) -> np.ndarray:
            return origin + rng.uniform(0.1, 0.9, size=(count, 2)) * extent

        return Setup(
            domain=replace(self.domain, origin=tuple(origin)),
            start=STARTS[shot],
            clock=Clock(self.rig.clock.dt, STEPS[shot], self.rig.clock.record_every),
            sources=points(SOURCES[shot]),
            receivers=points(RECEIVERS[shot]),
        )


class Alone:
    """One of the shots, with a solver of its own."""

    def __init__(self, rig: Rig, setups: Apart, shot: int, settings: ox.Settings) -> None:
        self.setup = setup = setups.of((), shot)
        self.inside = tuple(
            slice(i, i + n) for i, n in zip(setup.start, setup.domain.shape, strict=True)
        )
        self.solver = Solver(Planned.of(Program(rig.system)), setup.domain, setup.clock, settings)
        coefficients = zip(rig.names, rig.coefficients, strict=True)
        self.coefficients = {n: c[self.inside] for n, c in coefficients}

    def experiment(self, source: np.ndarray) -> Experiment:
        setup = self.setup
        source = source[None, : len(setup.sources), : setup.clock.steps]
        places = setup.sources[None], setup.receivers[None]
        return Experiment(self.coefficients, source, Alike(setup.domain, setup.clock, *places))


@pytest.mark.parametrize("way", ["whole", slow("revolve"), slow("sampled"), slow("half")])
def test_shots_of_their_own(way: str):
    """Traces, Born traces and gradients of the sources to the bit; gradients of the coefficients,
    which are summed at the scale of the strongest shot, to rounding."""
    settings = ox.Settings(threads=2, history=way, store_every=4 if way == "sampled" else None)
    rig = Rig(mass_form(Symbols(2, 4, "float64")), settings=settings)
    setups, recording = Apart(rig), rig.recording
    exact = Recording(rig.names, recording.history.every_step())  # Born modelling takes every step
    source = rig.random("sources", 4, setups.sources, rig.steps)
    coefficients = dict(zip(rig.names, rig.coefficients, strict=True))
    changes = dict(zip(rig.names, rig.perturbation(), strict=True))
    residual = rig.random("residuals", 4, setups.receivers, rig.clock.samples)
    asked = Asked(rig.names, wavelet=True, sources=True)
    e = Experiment(coefficients, source, setups)

    traces, slopes = rig.solver.forward((), e, recording, True)
    found = rig.solver.adjoint((), e, recording, residual, asked)
    born = rig.solver.born((), e, exact, changes, None)

    total: dict[str, Any] = {n: np.zeros_like(c) for n, c in coefficients.items()}
    for shot in range(setups.shots):
        alone = Alone(rig, setups, shot, settings)
        clock, e_alone = alone.setup.clock, alone.experiment(source[shot])
        used = slice(0, RECEIVERS[shot]), slice(0, clock.samples)
        expected, moved = alone.solver.forward((), e_alone, recording, True)
        assert np.any(expected)
        np.testing.assert_array_equal(traces[shot][used], expected[0])
        np.testing.assert_array_equal(slopes[shot][used[0], :, used[1]], moved[0])
        for values in (traces[shot], slopes[shot], born[shot]):
            assert not np.any(values[RECEIVERS[shot] :])
            assert not np.any(values[..., clock.samples :])
        part = {n: c[alone.inside] for n, c in changes.items()}
        expected = alone.solver.born((), e_alone, exact, part, None)
        np.testing.assert_array_equal(born[shot][used], expected[0])
        one = alone.solver.adjoint((), e_alone, recording, residual[shot][used][None], asked)
        fired = slice(0, SOURCES[shot]), slice(0, clock.steps)
        np.testing.assert_array_equal(found.wavelet[shot][fired], one.wavelet[0])
        np.testing.assert_array_equal(
            found.at_sources[shot][fired[0], :, fired[1]], one.at_sources[0]
        )
        assert not np.any(found.wavelet[shot][SOURCES[shot] :])
        for n in rig.names:
            total[n][alone.inside] += one.coefficients[n]
    for n in rig.names:
        scale = np.max(np.abs(total[n]))
        np.testing.assert_allclose(found.coefficients[n], total[n], rtol=0, atol=1e-13 * scale)
    if way != "sampled":  # which is exact for residuals of low frequencies only
        left = dot(born, residual)
        right = sum(dot(changes[n], found.coefficients[n]) for n in rig.names)
        assert abs(left - right) < 1e-12 * norm(born) * norm(residual)
