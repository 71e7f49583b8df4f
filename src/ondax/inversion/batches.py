"""Which shots an iteration works on."""

import numpy as np
from jaxtyping import Int32


def shot_batch(
    iteration: int, n_shots: int, batch_size: int, seed: int
) -> Int32[np.ndarray, " batch"]:
    """The shots of one iteration: the next `batch_size` of an endless row of random permutations,
    one an epoch.

    Every batch has the same size, so nothing is compiled anew, and every shot is used equally
    often. The answer depends on the arguments only, so a resumed inversion sees the same batches.
    Where `batch_size` does not divide `n_shots`, a batch may reach into the next epoch.

    Args:
        iteration: counted from 0.
        n_shots: number of shots of the survey.
        batch_size: shots an iteration, 1 to `n_shots`.
        seed: of the permutations, not negative.

    Returns:
        Indices of shots, shape (batch,).
    """
    first = iteration * batch_size
    places = np.arange(first, first + batch_size)
    epochs = range(first // n_shots, places[-1] // n_shots + 1)
    order = np.concatenate(
        [np.random.default_rng([seed, epoch]).permutation(n_shots) for epoch in epochs]
    )
    return order[places - epochs[0] * n_shots].astype(np.int32)
