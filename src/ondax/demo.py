"""The demonstration: full-waveform inversion of synthetic data from the Overthrust model, in about
a minute."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, final

import jax
import numpy as np
import optax

from .datasets import VelocitySection, overthrust
from .equations.acoustic import Acoustic
from .grid import Grid
from .inversion import FWIResult, fwi
from .misfits import least_squares
from .plotting import figure, gather, section
from .propagator import Propagator
from .spreads import line
from .survey import Survey
from .wavelets import ricker

SHOTS, BATCH, RECEIVERS = 20, 4, 201
FREQUENCY = 6.0  # Hz
BOUNDS = (2000.0, 6500.0)  # m/s, somewhat wider than the model
FIRST_STEP, LAST_STEP = 50.0, 10.0  # m/s


@final
class Report(NamedTuple):
    """The results of the demonstration.

    Attributes:
        misfit: half the sum of squared differences of all traces, before and after the inversion.
        model_error: root mean square difference from the true velocity, m/s, before and after.
        seconds: time of the inversion alone, and of the whole demonstration.
    """

    misfit: tuple[float, float]
    model_error: tuple[float, float]
    seconds: tuple[float, float]

    def __str__(self) -> str:
        inversion, everything = self.seconds
        rows = [f"{'':18}{'before':>10}{'after':>10}{'change':>11}"]
        pairs = {"misfit": self.misfit, "model error (m/s)": self.model_error}
        for name, (before, after) in pairs.items():
            change = 100 * (after / before - 1)
            rows.append(f"{name:18}{before:>10.4g}{after:>10.4g}{change:>+9.1f} %")
        rows.append(f"{everything:.0f} s, of which the inversion took {inversion:.0f} s")
        return "\n".join(rows)


def describe() -> str:
    """A paragraph on what the demonstration does, for the terminal."""
    return (
        f"Full-waveform inversion of the SEG/EAGE Overthrust model: {SHOTS} shots of a "
        f"{FREQUENCY:g} Hz wavelet,\n"
        f"{RECEIVERS} receivers, {BATCH} shots an iteration by Adam. The first run compiles its "
        "kernels."
    )


def run(output: Path, iterations: int, tell: Callable[[str], None]) -> Report:
    """Model the data, invert them, and write a picture.

    Args:
        output: path of the picture; its suffix names the format.
        iterations: number of iterations of the inversion.
        tell: called with what is done next, before each part that takes seconds.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: matplotlib cannot write that format.
    """
    started = time.perf_counter()
    picture = figure(15.0, 13.0)
    formats = picture.canvas.get_supported_filetypes()
    if output.suffix.removeprefix(".") not in formats:
        raise ValueError(
            f"cannot write a picture to {output}: its suffix must be one of "
            f"{', '.join(sorted(formats))}"
        )

    tell("modelling the observed data")
    model = overthrust(decimate=2)
    grid = Grid(model.vp.shape, model.spacing)
    survey = _survey(grid)
    F = Propagator(Acoustic(), grid, survey, max_velocity=BOUNDS[1])
    observed = F(model.vp)

    def misfit(vp):
        predicted = F(vp)
        return least_squares(predicted, observed), predicted

    tell("the gradient at the initial model")
    (before, first), gradient = jax.jit(jax.value_and_grad(misfit, has_aux=True))(model.vp_smooth)
    tell(f"{iterations} iterations of the inversion")
    result = fwi(
        F,
        observed,
        model.vp_smooth,
        optimizer=optax.adam(optax.linear_schedule(FIRST_STEP, LAST_STEP, iterations), b2=0.99),
        iterations=iterations,
        batch_size=BATCH,
        bounds=BOUNDS,
    )
    tell("drawing")
    after, last = misfit(result.model)

    shot = SHOTS // 3
    gathers = [np.asarray(traces[shot]) for traces in (observed, first, last)]
    _draw(picture, model, result, np.asarray(gradient), survey, *gathers)
    picture.savefig(output, dpi=110)
    return Report(
        misfit=(float(before), float(after)),
        model_error=(
            _difference(model.vp_smooth, model.vp),
            _difference(np.asarray(result.model), model.vp),
        ),
        seconds=(float(result.history.seconds.sum()), time.perf_counter() - started),
    )


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """The root mean square difference of two models."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


def _survey(grid: Grid) -> Survey:
    """A land line: shots and receivers all along the surface, one grid point deep."""
    (left, right), (top, _) = grid.extent
    depth = top + grid.spacing[1]
    return Survey(
        sources=line((left + 250.0, depth), (right - 250.0, depth), SHOTS),
        receivers=line((left, depth), (right, depth), RECEIVERS),
        wavelet=ricker(FREQUENCY, nt=1000, dt=0.004),
        dt=0.004,
    )


def _draw(
    picture: Any,
    model: VelocitySection,
    result: FWIResult,
    gradient: np.ndarray,
    survey: Survey,
    observed: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
) -> None:
    """Draw three rows: models and gradient; traces of one shot; misfits and velocity profiles.

    Args:
        picture: an empty figure.
        model: the true and the initial model.
        result: of the inversion.
        gradient: of the misfit at the initial model, (x, z).
        survey: the survey.
        observed: traces of the shot, (receiver, time).
        first: those predicted by the initial model.
        last: those predicted by the inverted model.
    """
    models, shots, curves = picture.subfigures(3, 1, height_ratios=(2.1, 1.2, 1.0))
    inverted = np.asarray(result.model)
    limits = (float(model.vp.min()), float(model.vp.max()))
    (true, initial), (final, slope) = models.subplots(2, 2)
    section(true, model.vp, model.spacing, limits=limits, title="true velocity")
    section(initial, model.vp_smooth, model.spacing, limits=limits, title="initial velocity")
    section(final, inverted, model.spacing, limits=limits, title="inverted velocity")
    depth = 1e-3 * model.spacing * np.arange(model.vp.shape[1])
    section(
        slope,
        gradient * depth,  # without the factor, all below the sources would look like zero
        model.spacing,
        signed=True,
        label="misfit per (m/s), times km",
        title="gradient at the initial model, times depth",
    )

    ends = (float(survey.receivers[0, 0, 0]), float(survey.receivers[0, -1, 0]))
    clip = 0.3 * float(np.percentile(np.abs(observed), 99))
    panels = {
        "observed": observed,
        "predicted by the inverted model": last,
        "observed - initial": observed - first,
        "observed - inverted": observed - last,
    }
    for axes, (title, traces) in zip(
        shots.subplots(1, 4, sharey=True), panels.items(), strict=True
    ):
        gather(axes, traces, survey.dt, offsets=ends, clip=clip, title=title)
        axes.label_outer()

    misfit, *profiles = curves.subplots(1, 4, width_ratios=(2.5, 1, 1, 1))
    iterations = np.arange(1, len(result.history) + 1)
    misfit.semilogy(iterations, result.history.misfit / result.history.misfit[0])
    misfit.set(
        xlabel="iteration",
        ylabel="misfit / first misfit",
        title=f"misfit of {BATCH} of {SHOTS} shots an iteration",
    )
    for axes, part in zip(profiles, (0.3, 0.5, 0.8), strict=True):
        i = int(part * model.vp.shape[0])
        axes.plot(model.vp[i], depth, "k", label="true", linewidth=1.0)
        axes.plot(model.vp_smooth[i], depth, "C0:", label="initial")
        axes.plot(inverted[i], depth, "C3", label="inverted")
        axes.set(
            xlabel="velocity (m/s)",
            title=f"at {1e-3 * i * model.spacing:.1f} km",
            ylim=(depth[-1], 0.0),
        )
    profiles[0].set_ylabel("depth (km)")
    profiles[-1].legend(fontsize="small", loc="lower left")
    curves.supxlabel(model.attribution, fontsize="x-small", color="0.4", x=0.01, ha="left")
