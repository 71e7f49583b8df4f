"""A 2-D section of the SEG/EAGE Overthrust model."""

from importlib.resources import files
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float32

from .._validate import whole


@final
class VelocitySection(NamedTuple):
    """A velocity model on a regular 2-D grid, depth last.

    Attributes:
        vp: velocity, m/s, shape (x, z).
        vp_smooth: the same, smoothed: an initial model for inversions.
        spacing: distance between grid points along both axes, m.
        attribution: authors and licence; give them wherever the model is shown or passed on.
    """

    vp: Float32[np.ndarray, "x z"]
    vp_smooth: Float32[np.ndarray, "x z"]
    spacing: float
    attribution: str


def overthrust(decimate: int = 1) -> VelocitySection:
    """The middle of a 2-D section of the SEG/EAGE 3-D Overthrust model (Aminzadeh, Brac and Kunz,
    1997): 10 km wide and 4.65 km deep, 401 x 187 points at a spacing of 25 m.

    It shows a thrusted anticline over a flat basement. Velocities are between 2356 and 6000 m/s;
    there is no water layer.

    Args:
        decimate: keep every `decimate`-th point along both axes; 2 gives 201 x 94 points at 50 m.

    Raises:
        ValueError: `decimate` is not a positive whole number.
    """
    decimate = whole("decimate", decimate, at_least=1)
    with (files("ondax.datasets") / "overthrust.npz").open("rb") as file, np.load(file) as arrays:
        vp, vp_smooth = (
            np.ascontiguousarray(arrays[name][::decimate, ::decimate], dtype=np.float32)
            for name in ("vp", "vp_smooth")
        )
        spacing = float(arrays["spacing"]) * decimate
    attribution = (
        "2-D section of the SEG/EAGE 3-D Overthrust model: Aminzadeh, Brac, Kunz (1997), SEG/EAGE "
        "3-D Modeling Series No. 1; CC BY 4.0"
    )
    return VelocitySection(vp, vp_smooth, spacing, attribution)
