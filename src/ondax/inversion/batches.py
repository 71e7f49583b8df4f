"""Which shots an iteration works on."""

import numpy as np
from jaxtyping import Int32


def shot_batch(
    iteration: int, n_shots: int, batch_size: int, seed: int
) -> Int32[np.ndarray, " batch"]:
    """The shots of one iteration.

    Shots are drawn without replacement; once all have been drawn, a new epoch starts, with a new
    random order. So every shot is used equally often. Every batch has the same size, so nothing is
    compiled again. Where `batch_size` does not divide `n_shots`, a batch takes the last shots of
    one epoch and the first of the next. The result depends on the arguments only, so a resumed
    inversion sees the same batches.

    Args:
        iteration: number of the iteration, counted from 0.
        n_shots: number of shots of the survey.
        batch_size: number of shots in a batch, 1 to `n_shots`.
        seed: seed of the random orders, not negative.

    Returns:
        Indices of shots, shape (batch,).
    """
    first = iteration * batch_size  # counted over all epochs, like `drawn`
    drawn = np.arange(first, first + batch_size)
    first_epoch, last_epoch = first // n_shots, drawn[-1] // n_shots
    orders = []
    for epoch in range(first_epoch, last_epoch + 1):
        orders.append(np.random.default_rng([seed, epoch]).permutation(n_shots))
    return np.concatenate(orders)[drawn - first_epoch * n_shots].astype(np.int32)
