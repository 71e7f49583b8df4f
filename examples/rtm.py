"""Reverse-time migration and demigration of the Overthrust section with the Jacobian.

`J = F.jacobian(smooth)` maps model perturbations to Born data (demigration) and its transpose maps
data to an image (RTM). Run `python examples/rtm.py`; it writes rtm.png and takes about half a
minute.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import ondax as ox
from ondax.plotting import figure, gather, section


def filtered(image: jax.Array) -> jax.Array:
    """The usual remedies for two-way images: a Laplacian against the low-wavenumber smear, a mute,
    a gain with depth."""
    padded = jnp.pad(image, 1, mode="edge")
    laplacian = (
        4 * image - padded[2:, 1:-1] - padded[:-2, 1:-1] - padded[1:-1, 2:] - padded[1:-1, :-2]
    )
    depth = jnp.arange(image.shape[1])
    return laplacian * jnp.where(depth < 5, 0.0, depth)


def below_direct_wave(survey: ox.Survey, speed: float, frequency: float) -> jax.Array:
    """A mute of the direct and diving waves: 0 before `offset / speed`, 1 a third of a second
    later."""
    offset = np.abs(survey.receivers[:, :, 0] - survey.sources[:, :1, 0])
    since = np.arange(survey.nt) * survey.dt - offset[:, :, None] / speed - 1.5 / frequency
    return jnp.asarray(np.clip(since / 0.3, 0.0, 1.0), jnp.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="coarser, at half the frequency, fewer shots"
    )
    quick = parser.parse_args().quick
    coarser, shots = (2, 4) if quick else (1, 20)
    nt, dt, frequency = 700 // coarser + 1, 0.004 * coarser, 9.0 / coarser

    model = ox.datasets.overthrust(decimate=2 * coarser)
    grid = ox.Grid(model.vp.shape, model.spacing)
    (left, right), _ = grid.extent
    depth = grid.spacing[1]
    survey = ox.Survey(
        sources=ox.line((left + 200.0, depth), (right - 200.0, depth), shots),
        receivers=ox.line((left, depth), (right, depth), grid.shape[0]),
        wavelet=ox.ricker(frequency, nt, dt),
        dt=dt,
    )
    # 50 m cells are coarse for 9 Hz in the slowest layer: good enough for a picture.
    F = ox.Propagator(
        ox.Acoustic(),
        grid,
        survey,
        max_velocity=float(model.vp.max()),
        min_points_per_wavelength=1.8,
    )
    smooth, true = jnp.asarray(model.vp_smooth), jnp.asarray(model.vp)

    J = F.jacobian(smooth)
    born = J.mv(true - smooth)  # demigration: linearised data of the true perturbation
    scattered = F(true) - F(smooth)  # what the wave equation says
    mute = below_direct_wave(survey, 2400.0, frequency)
    image = J.T.mv(mute * scattered)  # RTM

    check = ox.dot_test(
        J.mv, J.T.mv, true - smooth, jax.random.normal(jax.random.key(0), born.shape)
    )
    print(f"dot test of J and J': {check:.1e} (float32)")

    picture = figure(13.0, 8.0)
    top, bottom = picture.subplots(2, 2)
    section(
        top[0],
        true - smooth,
        grid.spacing,
        signed=True,
        label="m/s",
        title="true minus smooth velocity",
    )
    section(
        top[1],
        filtered(image),
        grid.spacing,
        signed=True,
        label="filtered gradient",
        title="RTM image",
    )
    shot = shots // 2
    clip = float(np.percentile(np.abs(scattered[shot]), 98))
    for axes, traces, title in zip(
        bottom, (scattered, born), ("scattered field", "Born data"), strict=True
    ):
        gather(axes, np.asarray(traces[shot]), dt, offsets=(left, right), clip=clip, title=title)
    picture.savefig("rtm.png", dpi=110)
    print("wrote rtm.png")


if __name__ == "__main__":
    main()
