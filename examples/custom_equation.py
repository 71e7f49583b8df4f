"""Ground-penetrating radar, an equation that ondax does not ship: modelled, differentiated, imaged.

Run `python examples/custom_equation.py`; it writes gpr.png and takes about half a minute.
"""

import argparse

import jax
import jax.numpy as jnp
from matplotlib.colors import CenteredNorm

import ondax as ox
from ondax.plotting import figure, gather

VACUUM_PERMITTIVITY, VACUUM_PERMEABILITY = 8.8541878128e-12, 4e-7 * jnp.pi


class Radar(ox.AbstractWaveEquation):
    """2-D TM mode: `eps E_tt + sigma E_t - laplace(E) / mu0 = w(t) delta(x - xs)`, E across the
    section."""

    parameter_names = ("permittivity", "conductivity")  # relative; S/m
    positive_parameters = ("permittivity",)
    space_order: int = 8

    def system(self, symbols, boundary):
        E, eps, sigma = symbols.field("E"), symbols.coefficient("eps"), symbols.coefficient("sigma")
        pde = ox.Update.of(eps * E.dt2 + sigma * E.dt - E.laplace / VACUUM_PERMEABILITY, E)
        source, receiver = ox.Port("source", ((E, 1.0),)), ox.Port("receiver", ((E, 1.0),))
        return ox.System(symbols, (eps, sigma), (pde,), (source,), (receiver,))

    def coefficients(self, parameters):
        return {
            "eps": VACUUM_PERMITTIVITY * parameters["permittivity"],
            "sigma": parameters["conductivity"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="coarser, at half the frequency, fewer shots"
    )
    quick = parser.parse_args().quick
    coarser, shots = (2, 3) if quick else (1, 10)
    spacing, dt = 0.02 * coarser, 2e-10 * coarser

    # 4 m by 2 m
    grid = ox.Grid(shape=(200 // coarser + 1, 100 // coarser + 1), spacing=spacing)
    survey = ox.Survey(
        ox.line((0.2, 0.1), (3.8, 0.1), shots),
        ox.line((0.1, 0.1), (3.9, 0.1), 96),
        ox.ricker(250e6 / coarser, 240 // coarser, dt),
        dt,
    )
    F = ox.Propagator(Radar(), grid, survey, max_velocity=1.2e8, boundary=ox.CPML(20))

    x, z = jnp.meshgrid(*(spacing * jnp.arange(n) for n in grid.shape), indexing="ij")
    pipe = jnp.hypot(x - 2.2, z - 1.0) < 0.12
    soil = {"permittivity": jnp.full(grid.shape, 9.0), "conductivity": jnp.full(grid.shape, 2e-3)}
    in_pipe = {"permittivity": 16.0, "conductivity": 2e-2}
    ground = {name: jnp.where(pipe, in_pipe[name], values) for name, values in soil.items()}
    observed, direct = F(ground), F(soil)

    def misfit(model):
        return 0.5 * jnp.sum((F(model) - observed) ** 2)

    value, gradient = jax.jit(jax.value_and_grad(misfit))(soil)  # in both parameters
    J, change = F.jacobian(soil), jax.tree.map(jnp.subtract, ground, soil)
    dot = ox.dot_test(J.mv, J.T.mv, change, observed - direct)
    print(f"misfit {value:.3g}, dot test of J {dot:.1e}")

    axes = figure(12.0, 4.0).subplots(1, 3)
    gather(axes[0], (observed - direct)[shots // 2], survey.dt, title="reflections of a pipe")
    gather(axes[1], J.mv(change)[shots // 2], survey.dt, title="Born data")
    image = -gradient["permittivity"].T
    axes[2].imshow(image, cmap="seismic", norm=CenteredNorm(), extent=(0, 4, 2, 0))
    title = "minus the gradient in permittivity"
    axes[2].set(title=title, xlabel="distance (m)", ylabel="depth (m)")
    axes[0].figure.savefig("gpr.png", dpi=110)
    print("wrote gpr.png")


if __name__ == "__main__":
    main()
