"""Baseline: an iteration of least-squares migration with deepwave's `scalar_born`, forward and
backward in the scattering potential."""

from __future__ import annotations

from typing import Any

import deepwave
import torch

from .cases import CASES, FREQUENCY, MAX_VELOCITY, ORDER, SPACING
from .worker import Actions, serve


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    torch.set_num_threads(options["threads"])
    case = CASES[options["case"]]
    coordinates = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in case.shape), indexing="ij"
    )
    velocity = case.velocity(*coordinates)
    scatter = case.reflectivity(*coordinates).contiguous().requires_grad_()
    # deepwave does not divide by the cell volume
    density = torch.tensor(case.wavelet) / SPACING ** len(case.shape)
    survey = {
        "source_amplitudes": density[None, None].repeat(case.shots, 1, 1),
        "source_locations": torch.tensor(case.sources)[:, None],
        "sc_receiver_locations": torch.tensor(case.receivers)[None].repeat(case.shots, 1, 1),
    }
    numerics = {
        "accuracy": ORDER,
        "pml_width": case.width,
        "pml_freq": FREQUENCY,
        "max_vel": MAX_VELOCITY,
    }

    def model() -> Any:
        return deepwave.scalar_born(velocity, SPACING, case.dt, dv=scatter, **survey, **numerics)

    def iteration() -> float:
        """Half the energy of the Born traces, and its gradient: one product with J and one with
        J'."""
        scatter.grad = None
        loss = 0.5 * torch.sum(model().sc_receiver_amplitudes ** 2)
        loss.backward()
        return float(loss.detach())

    def image() -> list[float]:
        iteration()
        assert scatter.grad is not None
        return scatter.grad.flatten().tolist()

    with torch.no_grad():
        steps_per_sample = model().info.step_ratio
    if steps_per_sample != 1:
        raise RuntimeError(f"unfair: deepwave took {steps_per_sample} inner steps a sample")
    facts = {"deepwave": deepwave.__version__, "torch": torch.__version__}
    return facts, {"iteration": iteration, "gradient_array": image}


if __name__ == "__main__":
    serve(start)
