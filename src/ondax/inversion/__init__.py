"""Full-waveform inversion: the loop, misfits, and what it saves and returns."""

from . import misfits as misfits
from .fwi import fwi as fwi
from .result import FWIResult as FWIResult
from .result import History as History
from .result import Interrupted as Interrupted
