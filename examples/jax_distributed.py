"""A gradient over several processes by `jax.distributed`: each models its own shots.

for rank in 0 1; do python examples/jax_distributed.py $rank 2 & done; wait
"""

import argparse

import jax
import numpy as np

import ondax as ox  # before JAX starts

PORT = 12321
SHOTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rank", type=int)
    parser.add_argument("processes", type=int)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--save", help="a file for this process's value and gradient")
    options = parser.parse_args()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address = f"127.0.0.1:{options.port}"
    jax.distributed.initialize(address, options.processes, options.rank)
    value, gradient = run(options.rank, options.processes)
    print(f"process {options.rank}: misfit {value:.6g}, |gradient| {np.linalg.norm(gradient):.6g}")
    if options.save:
        np.savez(options.save, value=value, gradient=gradient)


def problem() -> tuple[ox.Propagator, np.ndarray, np.ndarray]:
    """A propagator, the true model and where an inversion would start, m/s."""
    grid = ox.Grid((81, 61), 10.0)
    survey = ox.Survey(
        ox.line((50.0, 20.0), (750.0, 20.0), SHOTS),
        ox.line((0.0, 20.0), (800.0, 20.0), 41),
        ox.ricker(12.0, nt=251, dt=0.002),
        0.002,
    )
    start = np.full(grid.shape, 2000.0, np.float32)
    true = start.copy()
    true[35:45, 25:35] += 200.0
    settings = ox.Settings(threads=1)
    return ox.Propagator(ox.Acoustic(), grid, survey, 2500.0, settings=settings), true, start


def run(rank: int, processes: int) -> tuple[float, np.ndarray]:
    """The misfit of all shots and its gradient, which every process gets."""
    import jax.numpy as jnp
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    F, true, start = problem()
    mesh = jax.make_mesh((processes,), ("shots",), axis_types=(jax.sharding.AxisType.Auto,))
    each, alike = NamedSharding(mesh, P("shots")), NamedSharding(mesh, P())
    # The shots of this process, whose traces only it makes; or reads.
    own = np.array_split(np.arange(SHOTS, dtype=np.int32), processes)[rank]
    with jax.default_device(jax.local_devices()[0]):
        observed = np.asarray(F(jnp.asarray(true), shots=jnp.asarray(own)))
    shots = jax.make_array_from_process_local_data(each, own)
    data = jax.make_array_from_process_local_data(each, observed)
    model = jax.make_array_from_process_local_data(alike, start)

    def total(model: jax.Array, shots: jax.Array, data: jax.Array) -> jax.Array:
        misfit = ox.misfits.least_squares(F(model, shots=shots), data)
        return jax.lax.psum(misfit, "shots")

    specs = (P(), P("shots"), P("shots"))
    over_all = jax.shard_map(total, mesh=mesh, in_specs=specs, out_specs=P())
    value, gradient = jax.jit(jax.value_and_grad(over_all))(model, shots, data)
    return float(value.addressable_data(0)), np.asarray(gradient.addressable_data(0))


if __name__ == "__main__":
    main()
