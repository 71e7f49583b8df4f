"""Whole wavefields, decimated in space and time, as what goes in or comes out of a layer.

Every `space`-th grid point along each axis becomes a receiver or a source of its own, and what
holds for those holds
here: frames are at true times, time dispersion being taken out (see `Propagator`). That costs
memory for samples at every time step, (steps, points): meant for coarse wavefields.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .. import silence
from .._validate import whole
from ..propagator import Model, Propagator
from ..survey import Survey
from .channels import from_channels
from .held import Held
from .modelling import points_only


class WavefieldModelling(eqx.Module):
    """Model to wavefield: what receivers at every few grid points would record.

    Args:
        F: the propagator; the survey's own receivers are left out. The field is the survey's
            `receiver`.
        space: keep every `space`-th grid point along each axis, from the first.
        time: keep every `time`-th sample of the survey, from the first.
    """

    F: Propagator
    space: int = eqx.field(static=True)
    time: int = eqx.field(static=True)

    def __init__(self, F: Propagator, *, space: int = 1, time: int = 1) -> None:
        survey = _plain(points_only(F, "ExtendedModelling")).survey
        self.space, self.time = whole("space", space, at_least=1), whole("time", time, at_least=1)
        points = coarse_points(F, self.space)
        kinds = {"source": survey.source, "receiver": survey.receiver}
        with silence.expected():
            self.F = F.with_survey(
                Survey(survey.sources, points, survey.wavelet, survey.dt, **kinds)
            )

    def __call__(
        self, model: Float[Array, "parameter *grid"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "shot frame *coarse"]:
        """The wavefield of each shot."""
        return on_grid(self.F(from_channels(self.F, model)), self.F, self.space)[:, :: self.time]


class AbstractSourceWavefield(eqx.Module):
    """What the layers hold for which every few grid points are sources.

    A sample is a source density, as weights of extended sources are; it stands for its coarse cell.

    Args:
        F: the propagator; the survey's own sources and wavelets are left out. The source is the
            survey's `source`.
        model: the background, as F takes it.
        space: a source at every `space`-th grid point along each axis, from the first.
        time: a sample at every `time`-th of the survey's, from the first; linear in between.
        trainable: make the background a leaf of the network.
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


class WavefieldSource(AbstractSourceWavefield):
    """A source at every few grid points to traces, linear, at a background model. Its adjoint is
    `WavefieldAdjoint`.

    Arguments as of `AbstractSourceWavefield`.
    """

    def __call__(
        self, wavefield: Float[Array, "shot frame *coarse"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "shot *components receiver time"]:
        """Traces of a source wavefield."""
        return self.F(
            self.model(wavefield.dtype),
            wavelet=as_wavelets(wavefield, self.F, self.space, self.time),
        )


class WavefieldAdjoint(AbstractSourceWavefield):
    """Traces to the adjoint wavefield at every few grid points: the adjoint of `WavefieldSource`.

    Arguments as of `AbstractSourceWavefield`.
    """

    def __call__(
        self,
        data: Float[Array, "shot *components receiver time"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot frame *coarse"]:
        """The adjoint wavefield of each shot."""
        wavelets = self.F.adjoint(self.model(data.dtype), data)
        shape = (
            data.shape[0],
            len(range(0, self.F.survey.nt, self.time)),
            *coarse_shape(self.F, self.space),
        )

        def spread(wavefield: Any) -> Any:
            return as_wavelets(wavefield, self.F, self.space, self.time)

        (wavefield,) = jax.linear_transpose(spread, jax.ShapeDtypeStruct(shape, data.dtype))(
            wavelets
        )
        return wavefield


def coarse_shape(F: Propagator, space: int) -> tuple[int, ...]:
    """Points of a wavefield along each axis."""
    return tuple(len(range(0, n, space)) for n in F.grid.shape)


def coarse_points(F: Propagator, space: int) -> Float[np.ndarray, "point axis"]:
    """Their positions, metres."""
    axes = [
        o + h * np.arange(0, n, space)
        for o, h, n in zip(F.grid.origin, F.grid.spacing, F.grid.shape, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, F.grid.ndim)


def fired_everywhere(F: Propagator, space: int) -> Propagator:
    """The propagator with a source at every few points."""
    survey = _plain(F).survey
    points = coarse_points(F, space)
    sources = np.broadcast_to(points, (survey.n_shots, *points.shape))
    peak = survey.wavelet[:1, :1]  # says which frequencies to expect
    wavelet = np.broadcast_to(peak, (survey.n_shots, len(points), survey.nt))
    kinds = {"source": survey.source, "receiver": survey.receiver}
    with silence.expected():
        return F.with_survey(Survey(sources, survey.receivers, wavelet, survey.dt, **kinds))


def on_grid(
    traces: Float[Array, "shot point time"], F: Propagator, space: int
) -> Float[Array, "shot frame *coarse"]:
    """Traces of coarse points as a wavefield."""
    return jnp.moveaxis(traces, -1, 1).reshape(traces.shape[0], -1, *coarse_shape(F, space))


def as_wavelets(
    wavefield: Float[Array, "shot frame *coarse"], F: Propagator, space: int, time: int
) -> Float[Array, "shot point sample"]:
    """Wavelets of coarse points: samples interpolated linearly in time, times the coarse cell."""
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
    for name in ("source", "receiver"):
        if not (getattr(F.survey, name) is None or isinstance(getattr(F.survey, name), str)):
            raise ValueError(
                f"{name}={getattr(F.survey, name)!r}: a wavefield layer takes a single component, "
                "by its name"
            )
    return F
