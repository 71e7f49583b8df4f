"""Checks of what `fwi` and `lsrtm` are given: each error says which argument is wrong, and what to
do."""

import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
from jaxtyping import Array

from .._validate import whole
from ..gathers import over_components
from ..misfits import of_weighted, sums_over_shots
from ..propagator import Propagator
from ..survey import Survey
from .sizes import FITS, keeps_size

SUSPICIOUS = 1e-30  # below it, parts of a sum of squares may have vanished in float32


def matching_traces(
    observed: Any, predicted: jax.ShapeDtypeStruct, survey: Survey | None = None
) -> Array:
    """The observed traces in the dtype of the predicted ones; those of weight 0 as zeros.

    Args:
        observed: traces (shot, [component,] receiver, time), or a list of those of each shot.
        predicted: shape and dtype of what the propagator predicts.
        survey: that they were recorded with; None where it is not known.

    Raises:
        ValueError: the shapes differ, or a value is not finite.
    """
    if survey is not None and isinstance(observed, (list, tuple)):
        observed = survey.padded(observed)
    shape = tuple(np.shape(observed))
    if shape != predicted.shape:
        raise ValueError(
            f"observed has shape {shape}, but the propagator predicts {predicted.shape}, (shot, "
            "receiver, time): give it the survey that the traces were recorded with"
        )
    traces = jnp.asarray(observed, dtype=predicted.dtype)
    if survey is not None and survey.weighs_traces:
        dead = survey.trace_weights == 0.0
        traces = jnp.where(over_components(dead, traces.ndim)[..., None], 0.0, traces)
    if not bool(jnp.isfinite(traces).all()):
        raise ValueError(
            "observed holds NaN or infinite values: leave dead traces out, with weights of zero in "
            "Survey(trace_weights=...)"
        )
    return traces


def usable_path(path: Path) -> Path:
    """The path of a state file, with `~` replaced by the home directory.

    Raises:
        ValueError: its folder does not exist, or it is a folder itself.
    """
    path = path.expanduser()
    if not path.parent.is_dir():
        raise ValueError(
            f"save={str(path)!r}: the folder {path.parent} does not exist; create it first"
        )
    if path.is_dir():
        raise ValueError(f"save={str(path)!r} is a folder; give the path of a file")
    return path


def check_bounds(F: Any, allowed: Any) -> None:
    """Refuse bounds that allow velocities above `max_velocity`, for which the propagator's time
    step was chosen.

    Args:
        F: takes the models; only propagators have a largest velocity.
        allowed: a model at the end of what the bounds allow.

    Raises:
        ValueError: its vp is larger.
    """
    if not isinstance(F, Propagator):
        return
    if isinstance(allowed, dict):
        velocities = allowed.get("vp")
    elif F.equation.parameter_names == ("vp",):
        velocities = allowed
    else:
        velocities = None
    if velocities is None:
        return
    most = float(jnp.max(jnp.where(jnp.isfinite(velocities), velocities, 0.0)))
    if most > F.max_velocity * (1.0 + 1e-5):
        raise ValueError(
            f"bounds: vp may become {most:g} m/s, beyond max_velocity={F.max_velocity:g} m/s, for "
            "which the time step of the propagator was chosen: lower the bound, or "
            "F.replace(max_velocity=...)"
        )


def check_optimizer(optimizer: Any) -> None:
    """Refuse what is not an optimiser of optax.

    Raises:
        TypeError: it is not; says what to give.
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        given = getattr(optimizer, "__name__", repr(optimizer))
        example = (
            f"optax.{given}(...)" if callable(optimizer) else "optax.adam(10.0) or optax.lbfgs()"
        )
        raise TypeError(
            f"optimizer={given}: give an optimiser of optax, made with its step, such as {example}"
        )


def check_search(
    searches: bool, compares: bool, batch_size: Any, mask: Any, precondition: Any
) -> None:
    """Refuse arguments of `fwi` with which a line search or L-BFGS would work with wrong numbers.

    Args:
        searches: whether the optimiser searches along a line.
        compares: whether it compares gradients of successive iterations, as L-BFGS does.
        batch_size: number of shots in a batch, or None.
        mask: factors of the gradient, one array per leaf of the model, or None.
        precondition: function of the gradient, or None.

    Raises:
        ValueError: there are batches, a preconditioner, or factors other than 0 and 1.
    """
    if batch_size is not None and (searches or compares):
        raise ValueError(
            f"batch_size={batch_size} does not go with L-BFGS or a line search: they compare "
            "gradients of successive iterations, which would belong to different shots. Use all "
            "shots (batch_size=None), or a first-order optimiser such as optax.adam"
        )
    remedy = (
        "change the variables instead, by an operator: parameters="
        "ox.parametrizations.conditioned(start, operator)"
    )
    if searches and precondition is not None:
        raise ValueError(
            "precondition does not go with a line search, which needs the slope of the misfit "
            "itself; " + remedy
        )
    if searches and not _binary(mask):
        raise ValueError(
            "a mask with values other than 0 and 1 does not go with a line search, which needs the "
            "slope of the "
            "misfit itself; round the mask, or " + remedy
        )


def _binary(mask: Any) -> bool:
    """Are all factors 0 or 1?"""
    return mask is None or all(bool(jnp.all((m == 0) | (m == 1))) for m in jax.tree.leaves(mask))


def check_units(power: int, searches: bool) -> None:
    """Refuse a line search on misfits that are too large or too small for float32.

    Args:
        power: misfits are of the size of `2**power`.
        searches: whether the optimiser is a line search that needs the misfit in units of the data.

    Raises:
        FloatingPointError: it is, and the misfits are too far from 1.
    """
    if searches and abs(power) > FITS:
        raise FloatingPointError(
            f"misfits of these traces are of the size of 1e{round(power * math.log10(2.0))}, too "
            "far from 1 for a line search in float32: choose other units for source and data, or "
            "an optimiser that does not depend on them, such as optax.lbfgs or optax.adam"
        )


def check_representable(gradient_norm: float, dtype: Any) -> None:
    """Refuse gradients that the dtype cannot represent; for optimisers whose steps are proportional
    to the gradient.

    Args:
        gradient_norm: L2 norm of the gradient, in units of the data.
        dtype: dtype of the model.

    Raises:
        FloatingPointError: the norm is too large, or too small but not zero.
    """
    info = np.finfo(dtype)
    low, high = float(info.tiny) * 1024.0, float(info.max)
    if gradient_norm != 0.0 and not low < gradient_norm < high:
        size = "small" if gradient_norm < low else "large"
        raise FloatingPointError(
            f"the gradient in units of the data has a norm of {gradient_norm:.1e}, too {size} for "
            f"{np.dtype(dtype).name}, and the steps of this optimiser are proportional to it: "
            "choose other units for source and data, float64, or an optimiser that does not depend "
            "on the size of gradients, such as optax.adam"
        )


def check_squares(F: Any, misfit: Any, observed: Array, model: Any, value: float) -> None:
    """Refuse a misfit function of the user's whose value is lost in float32, because squares of
    small traces become zero. To find out, it is evaluated in float64 too.

    Args:
        F: the propagator.
        misfit: the misfit function.
        observed: traces.
        model: the model at which the misfit was evaluated.
        value: the misfit at that model.

    Raises:
        FloatingPointError: the values in float32 and in float64 differ by more than 0.1 %.
    """
    if abs(value) > SUSPICIOUS or observed.dtype != jnp.float32:
        return
    predicted = eqx.filter_jit(F)(model)
    single = float(misfit(predicted, observed))
    with jax.enable_x64(True):
        try:
            double = float(
                misfit(*(jnp.asarray(np.asarray(x), jnp.float64) for x in (predicted, observed)))
            )
        except (TypeError, ValueError):  # the misfit takes float32 only
            different = single == 0.0 and bool(
                (np.asarray(predicted) != np.asarray(observed)).any()
            )
            double = math.nan if different else single
    if not abs(single - double) <= 1e-3 * abs(double):
        raise FloatingPointError(
            f"the misfit is {single:.3g} in float32, but {double:.3g} in float64: what it computes "
            f"from traces of up to {float(jnp.max(jnp.abs(observed))):.1e} is too small for "
            "float32. Divide the traces by their size in the misfit first, choose other units for "
            "source and data, or take a misfit of ox.misfits"
        )


def level_of_preconditioner(precondition: Any, power: int, params: Any) -> int | None:
    """The power of two by which the gradient is multiplied before a preconditioner sees it.

    Args:
        precondition: the preconditioner, a function of the gradient, or None.
        power: multiplied by `2**power`, the gradient is in units of the data.
        params: arrays of the model's structure, shapes and dtypes.

    Returns:
        `power`. Where float32 cannot hold a gradient of that size, but the size makes no difference
        to the preconditioner: None, which stands for any power.

    Raises:
        ValueError: float32 cannot hold it, and the size does make a difference.
    """
    if precondition is None or abs(power) <= FITS:
        return power
    if not keeps_size(precondition, params):
        raise ValueError(
            "precondition does not grow in proportion to the gradient, whose size in units of the "
            f"data, about 1e{round(power * math.log10(2.0))}, is out of the range of float32: "
            "choose other units for source and data"
        )
    return None


def check_gauss_newton(
    F: Any,
    encodings: int | None,
    batch_size: int | None,
    precondition: Any,
    mask: Any,
    curvature: float,
) -> None:
    """Refuse what Gauss-Newton steps cannot be made of.

    Args:
        F: from a model to traces.
        encodings: number of super-shots, or None.
        batch_size: number of shots in a batch, or None.
        precondition: function of the gradient, or None.
        mask: factors of the gradient, one array per leaf of the model, or None.
        curvature: the largest second derivative of the misfit, on random traces.

    Raises:
        ValueError: says what.
    """
    reasons = {
        "an F that is no ox.Propagator": not isinstance(F, Propagator),
        "encodings": encodings is not None,
        "batch_size, whose misfits of different shots cannot be compared": batch_size is not None,
        "precondition": precondition is not None,
        "a mask with values other than 0 and 1, which its steps would undo": not _binary(mask),
        "a misfit without second derivatives, such as the sum of absolute differences: take "
        "least_squares, huber or another smooth one": curvature == 0.0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(f"ox.GaussNewton does not go with {reason}")


def largest_curvature(misfit: Any, predicted: jax.ShapeDtypeStruct) -> float:
    """The largest second derivative of a misfit in the traces, along a random direction at random
    traces.

    Args:
        misfit: of predicted and observed traces.
        predicted: the shape and type of traces; of a sum over shots, one shot is tried.
    """
    shape = (1, *predicted.shape[1:]) if sums_over_shots(misfit) else predicted.shape
    keys = jax.random.split(jax.random.key(0), 3)
    traces, observed, along = (jax.random.normal(k, shape, predicted.dtype) for k in keys)

    def slope(traces: Array) -> Array:
        return jax.grad(of_weighted, 1)(misfit, traces, observed, None)

    return float(jnp.max(jnp.abs(jax.jvp(slope, (traces,), (along,))[1])))


def check_linear_search(compares: bool, batch_size: int | None, encodings: int | None) -> None:
    """Refuse a line search or L-BFGS in `lsrtm` on data that change from iteration to iteration.

    Args:
        compares: whether the optimiser compares values or gradients of successive iterations.
        batch_size: number of shots in a batch, or None.
        encodings: number of super-shots, or None.

    Raises:
        ValueError: it does, and there are batches or super-shots.
    """
    if compares and (batch_size or encodings):
        raise ValueError(
            f"batch_size={batch_size}, encodings={encodings} do not go with L-BFGS or a line "
            "search: they compare values and gradients of successive iterations, which would "
            "belong to different data. Use all shots, or a first-order optimiser such as optax.adam"
        )


def check_linear(
    F: Any,
    J: Any,
    left: Any,
    right: Any,
    solver: Any,
    damping: float,
    batch_size: Any,
    encodings: Any,
    path: Path | None,
) -> None:
    """Refuse arguments with which `lsrtm` would fail or give a wrong image; `path` is that of the
    state file, and the others are as in `lsrtm`.

    Raises:
        ValueError: says which argument is wrong.
    """
    if not (np.isfinite(damping) and damping >= 0.0):
        raise ValueError(f"damping={damping!r} must be a number of at least 0")
    if isinstance(solver, str) and solver != "cgls":
        raise ValueError(
            f"solver={solver!r}: give 'cgls', a lineax solver such as lx.LSMR, or an optax "
            "optimiser"
        )
    is_optax = isinstance(solver, optax.GradientTransformation)
    for name, value in (("batch_size", batch_size), ("encodings", encodings)):
        if value is None:
            continue
        if not is_optax:
            raise ValueError(
                f"{name}={value} is for optax optimisers: "
                f"{solver if isinstance(solver, str) else type(solver).__name__} needs the same "
                "data in every iteration; give solver=optax.adam(...) or leave it out"
            )
        whole(name, value, at_least=1, at_most=F.survey.n_shots if name == "batch_size" else None)
    if batch_size is not None and encodings is not None:
        raise ValueError(f"batch_size={batch_size} and encodings={encodings}: give one of the two")
    if isinstance(solver, lx.AbstractLinearSolver) and path is not None:
        raise ValueError(
            f"save={str(path)!r} does not go with {type(solver).__name__}, whose loop is closed: "
            "there is no state between two iterations to be saved. Use solver='cgls', or leave "
            "`save` out"
        )
    traces = J.out_structure()
    if encodings is not None:
        traces = jax.ShapeDtypeStruct((encodings, *traces.shape[1:]), traces.dtype)
    if left is not None and left.in_structure() != traces:
        what = "super-shots" if encodings is not None else "the survey"
        raise ValueError(
            f"left acts on {left.in_structure()}, but traces of {what} are {traces}: check shots "
            "and dtype"
        )
    if right is not None and right.out_structure() != J.in_structure():
        raise ValueError(
            f"right gives {right.out_structure()}, but perturbations are {J.in_structure()}, like "
            "the background: pass like=background to what made it"
        )
    if batch_size is not None and left is not None:
        _check_acts_on_shots(left)


def _check_acts_on_shots(left: Any) -> None:
    """Refuse an operator on traces that mixes shots.

    An operator that acts on each shot alone can be exchanged with a factor for each shot: the
    result is the same whether traces are multiplied before or after it. One that mixes shots cannot
    (but by chance); so it is tried on random traces, with random factors.

    Raises:
        ValueError: it mixes shots.
    """
    structure = left.in_structure()
    random = np.random.default_rng(0)
    traces = jnp.asarray(random.normal(size=structure.shape), structure.dtype)
    factors = random.integers(1, 1 << 16, structure.shape[0]).astype(structure.dtype)
    factors = jnp.asarray(factors.reshape(-1, *(1,) * (len(structure.shape) - 1)))
    weighted = left.mv(traces)
    commutes = jnp.shape(weighted)[0] == structure.shape[0]
    if commutes:
        factors_out = factors.reshape(-1, *(1,) * (weighted.ndim - 1))
        first, last = left.mv(factors * traces), factors_out * weighted
        rounding = 1e3 * float(jnp.finfo(structure.dtype).eps) * float(jnp.max(jnp.abs(last)))
        commutes = float(jnp.max(jnp.abs(first - last))) <= rounding
    if not commutes:
        raise ValueError(
            "left mixes shots, so it cannot be restricted to a batch of them: leave out batch_size"
        )
