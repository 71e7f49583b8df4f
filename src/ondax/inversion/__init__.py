"""Full-waveform inversion and least-squares migration: the loops, misfits, preconditioners, and
what they return; source wavelets from traces."""

from .. import misfits as misfits
from . import parametrizations as parametrizations
from . import preconditioners as preconditioners
from . import projections as projections
from . import regularizers as regularizers
from .fwi import fwi as fwi
from .gauss_newton import GaussNewton as GaussNewton
from .loop import UnsavedState as UnsavedState
from .lsrtm import lsrtm as lsrtm
from .multiscale import MultiscaleResult as MultiscaleResult
from .multiscale import Stage as Stage
from .multiscale import multiscale as multiscale
from .result import FWIResult as FWIResult
from .result import History as History
from .result import Interrupted as Interrupted
from .result import LinearHistory as LinearHistory
from .result import LSRTMResult as LSRTMResult
from .signature import ProjectedWavelet as ProjectedWavelet
from .signature import Signature as Signature
from .signature import estimate_wavelet as estimate_wavelet
from .stopping import Stop as Stop
