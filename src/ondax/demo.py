"""The demonstration: full-waveform inversion of synthetic data from the Overthrust model, in about
a minute."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from .datasets import VelocitySection, overthrust
from .equations.acoustic import Acoustic
from .grid import Grid
from .inversion import FWIResult, fwi
from .inversion.misfits import least_squares
from .plotting import figure, gather, section
from .propagator import Propagator
from .survey import Survey, line
from .wavelets import ricker

SHOTS, BATCH, RECEIVERS = 20, 4, 201
FREQUENCY = 6.0  # Hz
BOUNDS = (2000.0, 6500.0)  # m/s, somewhat wider than the model
FIRST_STEP, LAST_STEP = 50.0, 10.0  # m/s


class Report(NamedTuple):
    """What the demonstration reached, before and after the inversion.

    Attributes:
        misfit: 0.5 sum of squared differences over all traces, before and after.
        model_error: root mean square difference to the true velocity, m/s, before and after.
        seconds: time of the inversion alone, and of the whole demonstration.
    """

    misfit: tuple[float, float]
    model_error: tuple[float, float]
    seconds: tuple[float, float]

    def __str__(self) -> str:
        rows = [f"{'':18}{'before':>10}{'after':>10}{'change':>11}"]
        for name, (before, after) in (
            ("misfit", self.misfit),
            ("model error (m/s)", self.model_error),
        ):
            rows.append(
                f"{name:18}{before:>10.4g}{after:>10.4g}{100 * (after / before - 1):>+9.1f} %"
            )
        return "\n".join(rows) + "\n{:.0f} s, of which the inversion took {:.0f} s".format(
            *self.seconds[::-1]
        )


def describe() -> str:
    """One paragraph on what the demonstration does."""
    return (
        f"Full-waveform inversion of the SEG/EAGE Overthrust model: {SHOTS} shots of a "
        f"{FREQUENCY:g} Hz wavelet,\n"
        f"{RECEIVERS} receivers, {BATCH} shots an iteration by Adam. The first run compiles its "
        "kernels."
    )


def run(output: Path, iterations: int) -> Report:
    """Models the data, inverts them, and writes a picture.

    Args:
        output: path of the picture; its suffix names the format.
        iterations: of the inversion.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if matplotlib cannot write that format.
    """
    started = time.perf_counter()
    picture = figure(15.0, 13.0)
    formats = picture.canvas.get_supported_filetypes()
    if output.suffix.removeprefix(".") not in formats:
        raise ValueError(
            f"cannot write a picture to {output}: its suffix must be one of "
            f"{', '.join(sorted(formats))}"
        )

    model = overthrust(decimate=2)
    grid = Grid(model.vp.shape, model.spacing)
    survey = _survey(grid)
    F = Propagator(Acoustic(), grid, survey, max_velocity=BOUNDS[1])
    observed = F(model.vp)

    def misfit(vp):
        predicted = F(vp)
        return least_squares(predicted, observed), predicted

    (before, first), gradient = jax.jit(jax.value_and_grad(misfit, has_aux=True))(model.vp_smooth)
    result = fwi(
        F,
        observed,
        model.vp_smooth,
        optimizer=optax.adam(optax.linear_schedule(FIRST_STEP, LAST_STEP, iterations), b2=0.99),
        iterations=iterations,
        batch_size=BATCH,
        bounds=BOUNDS,
    )
    after, last = misfit(result.model)

    shot = SHOTS // 3
    _draw(
        picture,
        model,
        result,
        np.asarray(gradient),
        survey,
        *(np.asarray(d[shot]) for d in (observed, first, last)),
    )
    picture.savefig(output, dpi=110)
    errors = [
        float(np.sqrt(np.mean((m - model.vp) ** 2)))
        for m in (model.vp_smooth, np.asarray(result.model))
    ]
    return Report(
        misfit=(float(before), float(after)),
        model_error=(errors[0], errors[1]),
        seconds=(float(result.history.seconds.sum()), time.perf_counter() - started),
    )


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
    """Models and gradient, one shot, and how the inversion went, in three rows; the traces are
    (receiver, time)."""
    models, shots, curves = picture.subfigures(3, 1, height_ratios=(2.1, 1.2, 1.0))
    inverted = np.asarray(result.model)
    limits = (float(model.vp.min()), float(model.vp.max()))
    (true, initial), (final, slope) = models.subplots(2, 2)
    section(true, model.vp, model.spacing, limits=limits, title="true velocity")
    section(initial, model.vp_smooth, model.spacing, limits=limits, title="initial velocity")
    section(final, inverted, model.spacing, limits=limits, title="inverted velocity")
    depth = 1e-3 * model.spacing * np.arange(model.vp.shape[1])
    title = "gradient at the initial model, times depth"  # or nothing would show below the sources
    section(
        slope,
        gradient * depth,
        model.spacing,
        signed=True,
        label="misfit per (m/s), times km",
        title=title,
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
    misfit.semilogy(
        np.arange(1, len(result.history) + 1), result.history.misfit / result.history.misfit[0]
    )
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
