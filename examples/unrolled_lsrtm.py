"""Loop-unrolled least-squares migration of single simultaneous shots, with the wave equation inside
a network.

    python examples/unrolled_lsrtm.py            # evaluates the shipped weights: table, picture
    python examples/unrolled_lsrtm.py --train    # trains them anew; Ctrl-C, and again: it goes on

The network alternates preconditioned gradients `P J' (J x - d)` with learned residual blocks; JAX
differentiates through both (see `unrolled/network.py` for the sources). One record `d` is all it
gets: sixteen sources fired at once with random time shifts, polarities and weights, Born data, and
Gaussian noise with the wavelet's spectrum, 6 dB below the data. The images are relative velocity
perturbations of known, smooth backgrounds, which the blocks do not read: they act through the wave
equation only. Born data have no direct wave, and the rows next to the sources are known (muted in
every method). A control runs the network on the record of another model.

Held out: the training windows of the Overthrust section lie in its first 6 km, those for evaluation
beyond 6.25 km; layered models come from other seeds; evaluation uses source encodings that training
never fires. The windows for evaluation share 3.75 km of section, so they overlap one another.

What the shipped weights reach, after 300 steps of four models each, is in
pictures/unrolled_lsrtm.txt and pictures/unrolled_lsrtm.png.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image  # matplotlib needs it too
from unrolled.evaluation import (
    CONJUGATE,
    LONG,
    RTM,
    UNROLLED,
    Outcome,
    compare,
    gain,
    table,
    unseen,
)
from unrolled.network import Unrolled
from unrolled.problem import UNIT, Layout, Problem, make_problem
from unrolled.training import Plan, load_weights, save_weights, train

import ondax as ox
from ondax.plotting import figure, section

HERE = Path(__file__).parent
WEIGHTS = HERE / "unrolled" / "weights.eqx"
SMALL = Layout(shape=(48, 32), nt=160, n_sources=4, max_shift=0.2, encodings=16, absorbing=10)


def evaluate(problem: Problem, network: Unrolled, count: int, long: int, output: Path) -> str:
    """Compares on Born data and on nonlinear data, draws, and returns the tables as text."""
    born = compare(problem, network, unseen(problem, count), long=long)
    draw(born, problem.layout, output.with_suffix(".png"))
    full = compare(problem, network, unseen(problem, count, nonlinear=True), long=long)
    noise = f"noise {problem.layout.snr:g} dB below the data"
    return (
        f"{count} unseen models, mean +- standard deviation over models\n\n"
        f"Born data, {noise}\n{table(born)}\n\n"
        f"Nonlinear data F(vp) - F(vp0), on which nothing was trained, {noise}\n{table(full)}\n"
    )


def draw(outcome: Outcome, layout: Layout, output: Path) -> None:
    """Four panels each for two models: of either kind the one with the median gain."""
    gains = gain(outcome, UNROLLED, CONJUGATE)
    picture = figure(15.0, 6.6)
    panels = picture.subplots(2, 4, sharex=True, sharey=True)
    for row, kind in enumerate(("layered model", "Overthrust window")):
        of_kind = np.arange(row, len(gains), 2)
        i = of_kind[np.argsort(gains[of_kind])[len(of_kind) // 2]]
        shown = {
            f"{kind}: true": outcome.true[i],
            "RTM, best scalar": outcome.images[RTM][i],
            "LS-RTM, conjugate gradient descent": outcome.images[CONJUGATE][i],
            "unrolled": outcome.images[UNROLLED][i],
        }
        scores = [None, *(outcome.scores[name][i] for name in (RTM, CONJUGATE, UNROLLED))]
        solves = [None, *(outcome.solves[name] for name in (RTM, CONJUGATE, UNROLLED))]
        clip = 100 * UNIT * float(np.percentile(np.abs(outcome.true[i]), 99))
        for axes, (title, image), score, count in zip(
            panels[row], shown.items(), scores, solves, strict=True
        ):
            if score is not None:
                solves = f"{count} solve{'s' if count > 1 else ''}"
                title += f"\n{solves}: {score[0]:.1f} dB, SSIM {score[1]:.2f}"
            last = section(
                axes,
                100 * UNIT * image,
                layout.spacing,
                limits=(-clip, clip),
                signed=True,
                label="",
                title=title,
            )
            axes.label_outer()
        picture.colorbar(
            last, ax=panels[row], label="velocity perturbation (%)", pad=0.01, aspect=12
        )
    picture.suptitle(
        f"From one record of {layout.n_sources} sources fired at once, noise {layout.snr:g} dB "
        "below the data; "
        "models and encodings never seen in training",
        fontsize="medium",
    )
    picture.supxlabel(
        ox.datasets.overthrust().attribution, fontsize="x-small", color="0.4", x=0.01, ha="left"
    )
    picture.savefig(output, dpi=80)
    with Image.open(output) as full:  # a palette: a third of the size
        small = full.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(output, optimize=True)


def main(arguments: Any = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--train", action="store_true", help="train from random weights, then evaluate"
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller models, fewer of them, fewer sources"
    )
    parser.add_argument(
        "--steps", type=int, default=Plan.steps, help="of training (default %(default)s)"
    )
    parser.add_argument(
        "--state", type=Path, default=Path("unrolled-state.eqx"), help="of training, to resume from"
    )
    parser.add_argument(
        "--weights", type=Path, help="read or, when training, written (default: the shipped / here)"
    )
    parser.add_argument(
        "--models", type=int, help="unseen models to evaluate on (default 24, quick 4)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("unrolled_lsrtm"), help="table .txt and picture .png"
    )
    given = parser.parse_args(arguments)
    layout, models, long = (SMALL, 4, 5) if given.quick else (Layout(), 24, LONG)
    models = models if given.models is None else given.models
    if given.steps < 1 or models < 4:
        parser.error(f"--steps {given.steps} --models {models}: at least 1 step and 4 models")

    started = time.perf_counter()
    problem, plan = make_problem(layout), Plan(steps=given.steps)
    network = Unrolled(jax.random.key(plan.seed))
    if given.train:
        network = train(problem, network, plan, given.state, tell=print).network
        weights = given.weights or Path("unrolled-weights.eqx")
        save_weights(weights, network)
        print(
            f"wrote {weights}; training took {time.perf_counter() - started:.0f} s since this start"
        )
    network = load_weights(given.weights or (weights if given.train else WEIGHTS), network)
    text = evaluate(problem, network, models, long, given.output)
    given.output.with_suffix(".txt").write_text(text)
    print(text)
    print(
        f"wrote {given.output.with_suffix('.png')} and .txt; {time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
