"""Layers whose input or output is a whole wavefield, decimated in space and time.

Every `space`-th grid point along each axis becomes a receiver or a source. So what holds for
receivers and sources holds for wavefields: frames are at true times, as time dispersion is removed
(see `Propagator`). The layers are for coarse wavefields, because they need memory for the samples
of all these points at every internal time step.
"""

from __future__ import annotations

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._types import Model
from .._validate import whole
from ..acquisition import silence
from ..propagator import Propagator
from .channels import from_channels
from .held import Held
from .modelling import points_only


@final
class WavefieldModelling(eqx.Module):
    """A layer from model to wavefield: what receivers at every few grid points would record.

    Args:
        F: the propagator. Its survey's receivers are replaced by grid points, which record the same
            component (`Survey.receiver`).
        space: keep every `space`-th grid point along each axis, from the first.
        time: keep every `time`-th sample of the survey, from the first.

    Raises:
        ValueError: `space` or `time` is not a positive whole number; the survey's sources are
            extended; or it has more than one component.
    """

    F: Propagator
    space: int = eqx.field(static=True)
    time: int = eqx.field(static=True)

    def __init__(self, F: Propagator, *, space: int = 1, time: int = 1) -> None:
        survey = _plain(points_only(F, "ExtendedModelling")).survey
        self.space, self.time = whole("space", space, at_least=1), whole("time", time, at_least=1)
        points = coarse_points(F, self.space)
        with silence.expected():
            self.F = F.with_survey(survey.replace(receivers=points, trace_weights=None))

    def __call__(
        self, model: Float[Array, "parameter *grid"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "shot frame *coarse"]:
        """The wavefield of each shot, for a model with one channel for each parameter.

        Raises:
            ValueError: the model has another shape.
        """
        return on_grid(self.F(from_channels(self.F, model)), self.F, self.space)[:, :: self.time]


class AbstractSourceWavefield(eqx.Module):
    """What layers have in common for which every few grid points are sources.

    A sample of the source wavefield is a source strength per volume, like the weights of extended
    sources; it is multiplied by the volume of a coarse cell.

    Args:
        F: the propagator. Its survey's sources are replaced by grid points, which feed the same
            component (`Survey.source`).
        model: the background, as F takes it.
        space: there is a source at every `space`-th grid point along each axis, from the first.
        time: frames are at every `time`-th sample of the survey, from the first; between them, the
            sources are interpolated linearly.
        trainable: make the background a leaf of the network.

    Raises:
        ValueError: `space` or `time` is not a positive whole number, or the survey has more than
            one component.
    """

    F: Propagator
    model: Held
    space: int = eqx.field(static=True)
    time: int = eqx.field(static=True)

    def __init__(
        self, F: Propagator, model: Model, *, space: int = 1, time: int = 1, trainable: bool = False
    ) -> None:
        self.space, self.time = whole("space", space, at_least=1), whole("time", time, at_least=1)
        self.F, self.model = fired_everywhere(F, self.space), Held(model, trainable)


@final
class WavefieldSource(AbstractSourceWavefield):
    """A linear layer from a source wavefield to traces, at a background model.

    Its adjoint is `WavefieldAdjoint`. Its arguments are those of `AbstractSourceWavefield`.
    """

    def __call__(
        self, wavefield: Float[Array, "shot frame *coarse"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "shot *components receiver time"]:
        """Traces of a source wavefield.

        Raises:
            ValueError: another shape.
        """
        return self.F(
            self.model(wavefield.dtype),
            wavelet=as_wavelets(wavefield, self.F, self.space, self.time),
        )


@final
class WavefieldAdjoint(AbstractSourceWavefield):
    """A linear layer from traces to the adjoint wavefield at every few grid points: the adjoint of
    `WavefieldSource`.

    Its arguments are those of `AbstractSourceWavefield`.
    """

    def __call__(
        self,
        data: Float[Array, "shot *components receiver time"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot frame *coarse"]:
        """The adjoint wavefield of each shot.

        Raises:
            ValueError: the traces have another shape than the survey's.
        """
        wavelets = self.F.adjoint(self.model(data.dtype), data)
        frames = len(range(0, self.F.survey.nt, self.time))
        shape = (data.shape[0], frames, *coarse_shape(self.F, self.space))

        def spread(wavefield: Any) -> Any:
            return as_wavelets(wavefield, self.F, self.space, self.time)

        gathered = jax.linear_transpose(spread, jax.ShapeDtypeStruct(shape, data.dtype))
        (wavefield,) = gathered(wavelets)
        return wavefield


def coarse_shape(F: Propagator, space: int) -> tuple[int, ...]:
    """Number of points of a wavefield along each axis."""
    return tuple(len(range(0, n, space)) for n in F.grid.shape)


def coarse_points(F: Propagator, space: int) -> Float[np.ndarray, "point axis"]:
    """Positions of the points of a wavefield, m, with the last axis fastest."""
    axes = [
        o + h * np.arange(0, n, space)
        for o, h, n in zip(F.grid.origin, F.grid.spacing, F.grid.shape, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, F.grid.ndim)


def fired_everywhere(F: Propagator, space: int) -> Propagator:
    """The propagator with a source at every `space`-th grid point along each axis.

    Raises:
        ValueError: the survey has more than one component.
    """
    survey = _plain(F).survey
    points = coarse_points(F, space)
    sources = np.broadcast_to(points, (survey.n_shots, *points.shape))
    peak = F._problem.from_start(survey.wavelet[:1, :1], np)
    wavelet = np.broadcast_to(  # never fired; the highest frequency is taken from it
        peak[..., : survey.nt], (survey.n_shots, len(points), survey.nt)
    )
    with silence.expected():
        return F.with_survey(survey.replace(sources=sources, wavelet=wavelet))


def on_grid(
    traces: Float[Array, "shot point time"], F: Propagator, space: int
) -> Float[Array, "shot frame *coarse"]:
    """The traces of receivers at `coarse_points` as a wavefield."""
    return jnp.moveaxis(traces, -1, 1).reshape(traces.shape[0], -1, *coarse_shape(F, space))


def as_wavelets(
    wavefield: Float[Array, "shot frame *coarse"], F: Propagator, space: int, time: int
) -> Float[Array, "shot point sample"]:
    """A source wavefield as wavelets of sources at `coarse_points`: interpolated linearly in time,
    times the volume of a coarse cell.

    Raises:
        ValueError: the wavefield has another shape.
    """
    nt = F.survey.nt
    expected = (F.survey.n_shots, len(range(0, nt, time)), *coarse_shape(F, space))
    if wavefield.shape != expected:
        raise ValueError(
            f"a wavefield of shape {wavefield.shape}: give (shot, frame, *coarse grid) = {expected}"
        )
    flat = jnp.moveaxis(wavefield.reshape(*wavefield.shape[:2], -1), 1, -1)
    places = np.arange(nt) / time
    first = np.minimum(places.astype(int), flat.shape[-1] - 1)
    second = np.minimum(first + 1, flat.shape[-1] - 1)
    share = jnp.asarray(places - first, flat.dtype)
    fine = flat[..., first] * (1 - share) + flat[..., second] * share
    return fine * float(np.prod([space * h for h in F.grid.spacing]))


def _plain(F: Propagator) -> Propagator:
    """The propagator itself, if sources and receivers of its survey have a single component each.

    Raises:
        ValueError: they have several.
    """
    for name, kind in (("source", F.survey.source), ("receiver", F.survey.receiver)):
        if not (kind is None or isinstance(kind, str)):
            raise ValueError(
                f"{name}={kind!r}: a wavefield layer takes a single component, by its name"
            )
    return F
