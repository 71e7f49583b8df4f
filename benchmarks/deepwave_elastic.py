"""deepwave's elastic propagator on the elastic case: same grid, steps, source, receivers and
threads; its own layer.

Its layer is a CPML, which needs fewer cells than a sponge: `width` is deepwave's default, 20,
unless told otherwise. The gradient is by lambda, mu and buoyancy, which it averages to the points
between the nodes itself.
"""

from __future__ import annotations

from typing import Any

import deepwave
import torch

from .cases import FREQUENCY, SPACING
from .media_cases import ELASTIC_CASES
from .worker import Actions, serve

DEFAULT_WIDTH = 20


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    torch.set_num_threads(options["threads"])
    case = ELASTIC_CASES[options["case"]]
    coordinates = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in case.shape), indexing="ij"
    )
    parameters = case.parameters(*coordinates)
    model = [m.requires_grad_() for m in deepwave.vpvsrho_to_lambmubuoyancy(*parameters.values())]
    # deepwave does not divide by the cell's area, and drives the first step with the first sample
    rate = torch.tensor(case.wavelet[1:]) / SPACING ** len(case.shape)
    receivers = torch.tensor(case.receivers)[None].repeat(case.shots, 1, 1)
    survey = {
        "sources": {
            "pressure_rate": (
                rate[None, None].repeat(case.shots, 1, 1),
                torch.tensor(case.sources)[:, None],
            )
        },
        "receivers": {"y": receivers, "x": receivers},
    }
    numerics = {
        "accuracy": options["order"],
        "pml_width": options.get("width", DEFAULT_WIDTH),
        "pml_freq": FREQUENCY,
        "max_vel": case.max_velocity,
    }

    def run() -> Any:
        return deepwave.elastic(*model, SPACING, case.dt, **survey, **numerics)

    def forward() -> None:
        with torch.no_grad():
            run()

    def gradient() -> float:
        for m in model:
            m.grad = None
        out = run()
        loss = 0.5 * (
            torch.sum(out.receiver_amplitudes_y**2) + torch.sum(out.receiver_amplitudes_x**2)
        )
        loss.backward()
        return float(loss.detach())

    def gradient_array() -> list[float]:
        """By vp, vs and rho, as the other contenders."""
        leaves = [p.detach().requires_grad_() for p in parameters.values()]
        gradient()
        torch.autograd.backward(
            deepwave.vpvsrho_to_lambmubuoyancy(*leaves), [m.grad for m in model]
        )
        return torch.cat([leaf.grad.flatten() for leaf in leaves]).tolist()

    with torch.no_grad():
        steps_per_sample = run().info.step_ratio
    if steps_per_sample != 1:
        raise RuntimeError(f"unfair: deepwave took {steps_per_sample} inner steps a sample")
    facts = {"deepwave": deepwave.__version__, "torch": torch.__version__}
    return facts, {"forward": forward, "gradient": gradient, "gradient_array": gradient_array}


if __name__ == "__main__":
    serve(start)
