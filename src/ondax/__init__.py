"""Differentiable wave physics for JAX: seismic operators run by Devito-generated kernels.

This is the public interface; modules not re-exported here are private.
"""

from typing import TYPE_CHECKING, Any

# It acts when it is imported, before JAX starts.
from .face import transport as _transport  # noqa: F401

# isort: split

from . import histories as histories
from .acquisition.coarse_sampling import CoarseSampling as CoarseSampling
from .acquisition.silence import SilentReceivers as SilentReceivers
from .acquisition.silence import SuspiciousPositions as SuspiciousPositions
from .backends.devito.compiler import CompilerError as CompilerError
from .backends.devito.kernel_cache import KernelCacheWarning as KernelCacheWarning
from .backends.settings import Settings as Settings
from .boundaries.base import AbstractBoundary as AbstractBoundary
from .boundaries.cpml import CPML as CPML
from .boundaries.faces import Faces as Faces
from .boundaries.joint import JointPML as JointPML
from .boundaries.sponge import Sponge as Sponge
from .boundaries.surface import FreeSurface as FreeSurface
from .cluster import cluster as cluster
from .cluster.errors import KilledWorkers as KilledWorkers
from .cluster.errors import NoWorkers as NoWorkers
from .cluster.errors import UnlikeWorkers as UnlikeWorkers
from .equations.acoustic import Acoustic as Acoustic
from .equations.acoustic_density import AcousticDensity as AcousticDensity
from .equations.base import AbstractWaveEquation as AbstractWaveEquation
from .equations.elastic import Elastic as Elastic
from .equations.time_stepping import LEAPFROG as LEAPFROG
from .equations.time_stepping import TimeStepping as TimeStepping
from .equations.tti import TTI as TTI
from .equations.viscoacoustic import Viscoacoustic as Viscoacoustic
from .equations.vti import VTI as VTI
from .face.wavefields import Wavefields as Wavefields
from .fibre import Fibre as Fibre
from .grid import Grid as Grid
from .histories.base import AbstractHistory as AbstractHistory
from .histories.buffers import release_memory as release_memory
from .histories.scratch import DiskFull as DiskFull
from .points import Extended as Extended
from .propagator import Propagator as Propagator
from .scheme.errors import EquationError as EquationError
from .scheme.symbols import EVEN as EVEN
from .scheme.symbols import ODD as ODD
from .scheme.symbols import Symbols as Symbols
from .scheme.system import Port as Port
from .scheme.system import System as System
from .scheme.system import Update as Update
from .second_order import hvp as hvp
from .spreads import carpet as carpet
from .spreads import line as line
from .spreads import ocean_bottom as ocean_bottom
from .spreads import streamer as streamer
from .spreads import vsp as vsp
from .stability.layering import GrowthInLayers as GrowthInLayers
from .survey import ReceiversDropped as ReceiversDropped
from .survey import Survey as Survey
from .testing import dot_test as dot_test
from .wavelets import gaussian as gaussian
from .wavelets import klauder as klauder
from .wavelets import ormsby as ormsby
from .wavelets import ricker as ricker
from .wavelets import sweep as sweep
from .wavelets import tone_burst as tone_burst

if TYPE_CHECKING:
    from . import datasets as datasets
    from . import io as io
    from . import misfits as misfits
    from . import nn as nn
    from . import plotting as plotting
    from . import stability as stability
    from .equations import averages as averages
    from .equations import schemes as schemes
    from .inversion import FWIResult as FWIResult
    from .inversion import GaussNewton as GaussNewton
    from .inversion import Interrupted as Interrupted
    from .inversion import LSRTMResult as LSRTMResult
    from .inversion import MultiscaleResult as MultiscaleResult
    from .inversion import ProjectedWavelet as ProjectedWavelet
    from .inversion import Stage as Stage
    from .inversion import Stop as Stop
    from .inversion import UnsavedState as UnsavedState
    from .inversion import estimate_wavelet as estimate_wavelet
    from .inversion import fwi as fwi
    from .inversion import lsrtm as lsrtm
    from .inversion import multiscale as multiscale
    from .inversion import parametrizations as parametrizations
    from .inversion import preconditioners as preconditioners
    from .inversion import projections as projections
    from .inversion import regularizers as regularizers
    from .jacobian import Jacobian as Jacobian
    from .objective import Objective as Objective
    from .streaming import model as model
    from .streaming import rtm as rtm

# Loaded on first use: they bring optax, lineax and matplotlib, which modelling does without.
_LATER = {
    "fwi": "inversion",
    "FWIResult": "inversion",
    "GaussNewton": "inversion",
    "MultiscaleResult": "inversion",
    "Stage": "inversion",
    "multiscale": "inversion",
    "Interrupted": "inversion",
    "UnsavedState": "inversion",
    "lsrtm": "inversion",
    "LSRTMResult": "inversion",
    "estimate_wavelet": "inversion",
    "ProjectedWavelet": "inversion",
    "parametrizations": "inversion.parametrizations",
    "preconditioners": "inversion.preconditioners",
    "projections": "inversion.projections",
    "regularizers": "inversion.regularizers",
    "Stop": "inversion",
    "misfits": "misfits",
    "datasets": "datasets",
    "io": "io",
    "nn": "nn",
    "plotting": "plotting",
    "stability": "stability",
    "averages": "equations.averages",
    "schemes": "equations.schemes",
    "Jacobian": "jacobian",
    "Objective": "objective",
    "model": "streaming",
    "rtm": "streaming",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module
    from importlib.metadata import version

    if name == "__version__":
        return version("ondax")
    if name not in _LATER:
        raise AttributeError(f"module 'ondax' has no attribute {name!r}")
    module = import_module(f".{_LATER[name]}", __name__)
    value = module if _LATER[name].split(".")[-1] == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*(n for n in globals() if not n.startswith("_")), *_LATER])
