"""Baseline 2: deepwave's scalar propagator on the same grid, order, time steps and threads, with a
layer of the case's width unless told another."""

from __future__ import annotations

from typing import Any

import deepwave
import torch

from .cases import CASES, FREQUENCY, MAX_VELOCITY, ORDER, SPACING
from .worker import Actions, serve


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    torch.set_num_threads(options["threads"])
    case, extend = CASES[options["case"]], options.get("extend", 0)
    coordinates = torch.meshgrid(
        *(torch.tensor(i, dtype=torch.float32) for i in case.indices(extend)), indexing="ij"
    )
    device = options.get("device", "cpu")
    velocity = case.velocity(*coordinates).to(device).requires_grad_()
    # deepwave does not divide by the cell volume
    density = torch.tensor(case.wavelet) / SPACING ** len(case.shape)
    survey = {
        "source_amplitudes": density[None, None].repeat(case.shots, 1, 1),
        "source_locations": torch.tensor(case.sources)[:, None] + extend,
        "receiver_locations": torch.tensor(case.receivers)[None].repeat(case.shots, 1, 1) + extend,
    }
    survey = {name: values.to(device) for name, values in survey.items()}
    numerics = {
        "accuracy": ORDER,
        "pml_width": options.get("width", case.width),
        "pml_freq": FREQUENCY,
        "max_vel": MAX_VELOCITY,
    }

    def model() -> Any:
        return deepwave.scalar(velocity, SPACING, case.dt, **survey, **numerics)

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> None:
        with torch.no_grad():
            model()
        finish()

    def traces() -> list[float]:
        with torch.no_grad():
            return model().receiver_amplitudes.flatten().tolist()

    def gradient() -> float:
        velocity.grad = None
        loss = 0.5 * torch.sum(model().receiver_amplitudes ** 2)
        loss.backward()
        finish()
        return float(loss.detach())

    def gradient_array() -> list[float]:
        gradient()
        assert velocity.grad is not None
        return velocity.grad.flatten().tolist()

    with torch.no_grad():
        steps_per_sample = model().info.step_ratio
    if steps_per_sample != 1:
        raise RuntimeError(f"unfair: deepwave took {steps_per_sample} inner steps a sample")
    facts = {"deepwave": deepwave.__version__, "torch": torch.__version__}
    actions = {
        "forward": forward,
        "gradient": gradient,
        "gradient_array": gradient_array,
        "traces": traces,
    }
    return facts, actions


if __name__ == "__main__":
    serve(start)
