"""Preconditioners of linear inversion, as `lineax` operators with exact adjoints.

Operators on models: `top_mute` (with `seabed`, which finds its depth), `source_taper`,
`receiver_taper`, `depth_scaling`, `illumination`, `smoothing`. Operators on traces: `mute_direct`,
`time_gain`, `band_pass`, `fractional_derivative`, `to_2d`. Compose them with `@`: the transpose of
`L @ J @ R` is `R.T @ J.T @ L.T`.
"""

from .data import band_pass as band_pass
from .data import fractional_derivative as fractional_derivative
from .data import mute_direct as mute_direct
from .data import time_gain as time_gain
from .data import to_2d as to_2d
from .model import depth_scaling as depth_scaling
from .model import illumination as illumination
from .model import receiver_taper as receiver_taper
from .model import seabed as seabed
from .model import source_taper as source_taper
from .model import top_mute as top_mute
from .smoothing import smoothing as smoothing
