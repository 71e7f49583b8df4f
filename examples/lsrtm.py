"""Least-squares RTM of the Overthrust section, against RTM, with preconditioners and a state that
survives interruption.

Run it, press Ctrl-C (or kill it), and run it again: it goes on where it was. Delete lsrtm-state.npz
to start afresh. Run `python examples/lsrtm.py`; it writes lsrtm.png (see pictures/lsrtm.png) and
takes about half a minute.
"""

import argparse

import jax.numpy as jnp
import numpy as np

import ondax as ox
from ondax.plotting import figure, section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="coarser, fewer shots and iterations")
    quick = parser.parse_args().quick
    coarser, shots, iterations = (2, 6, 8) if quick else (1, 12, 15)
    nt, dt = 550 // coarser + 1, 0.004 * coarser

    model = ox.datasets.overthrust(decimate=2 * coarser)
    smooth, true = jnp.asarray(model.vp_smooth), jnp.asarray(model.vp)
    grid = ox.Grid(smooth.shape, model.spacing)
    (left, right), _ = grid.extent
    depth = grid.spacing[1]
    survey = ox.Survey(
        sources=ox.line((left + 200.0, depth), (right - 200.0, depth), shots),
        receivers=ox.line((left, depth), (right, depth), grid.shape[0]),
        wavelet=ox.ricker(7.0 / coarser, nt, dt),
        dt=dt,
    )
    # 50 m cells are coarse for the highest frequencies in the slowest layer: good enough for a
    # picture.
    F = ox.Propagator(
        ox.Acoustic(), grid, survey, max_velocity=float(true.max()), min_points_per_wavelength=1.8
    )

    top = ox.preconditioners.top_mute(grid, 2 * depth, 4 * depth)
    reflectivity = top.mv(true - smooth)
    J = F.jacobian(smooth)
    observed = J.mv(reflectivity)  # the reflections: linearised data, without direct waves

    # Diving waves say little about reflectors.
    L = ox.preconditioners.mute_direct(survey, velocity=2400.0, taper=0.2)
    R = top @ ox.preconditioners.illumination(F, smooth, left=L)
    rtm = J.T.mv((L @ L).mv(observed))
    result = ox.lsrtm(
        F, observed, smooth, iterations=iterations, left=L, right=R, save="lsrtm-state.npz"
    )

    def likeness(image: np.ndarray) -> float:
        """Correlation with the true reflectivity, whatever the scale."""
        sizes = np.linalg.norm(image) * np.linalg.norm(reflectivity)
        return float(np.vdot(image, reflectivity) / sizes)

    residual = result.history.data_residual
    images = {
        "true minus smooth velocity": reflectivity,
        f"RTM: correlation {likeness(rtm):.2f}": rtm * 1e3 * np.arange(grid.shape[1]),
        f"least-squares RTM: correlation {likeness(result.image):.2f}": result.image,
    }
    print(
        f"data residual {residual[0]:.2f} -> {residual[-1]:.3f} in {iterations} iterations; of 1 "
        "at the start"
    )
    print("\n".join(images))

    picture = figure(12.0, 6.0)
    *panels, curve = picture.subplots(2, 2).flat
    for axes, (title, image) in zip(panels, images.items(), strict=True):
        label = "gradient, times depth" if title.startswith("RTM") else "m/s"
        section(axes, np.asarray(image), grid.spacing, signed=True, label=label, title=title)
    curve.semilogy(np.arange(iterations + 1), [1.0, *residual], "o-")
    curve.set(xlabel="iteration", ylabel="relative data residual")
    curve.grid(alpha=0.3)
    picture.savefig("lsrtm.png", dpi=80)
    print("wrote lsrtm.png")
    assert residual[-1] < (0.2 if quick else 0.1)
    assert likeness(result.image) > likeness(rtm) + 0.2


if __name__ == "__main__":
    main()
