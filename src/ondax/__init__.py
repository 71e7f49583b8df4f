"""Differentiable wave physics for JAX: seismic operators run by Devito-generated kernels.

This is the public interface; modules not re-exported here are private.
"""

from typing import TYPE_CHECKING, Any

from . import devito_settings as _devito_settings  # noqa: F401  (first: it must act before Devito is imported)
from . import transport as _transport  # noqa: F401  (and this one before JAX starts its CPU client)
from .calculus import EquationError as EquationError
from .coarse_sampling import CoarseSampling as CoarseSampling
from .engine import CompilerError as CompilerError
from .engine import KernelCacheWarning as KernelCacheWarning
from .engine import Settings as Settings
from .engine import release_memory as release_memory
from .equations import CPML as CPML
from .equations import EVEN as EVEN
from .equations import LEAPFROG as LEAPFROG
from .equations import ODD as ODD
from .equations import TTI as TTI
from .equations import VTI as VTI
from .equations import AbstractBoundary as AbstractBoundary
from .equations import AbstractWaveEquation as AbstractWaveEquation
from .equations import Acoustic as Acoustic
from .equations import AcousticDensity as AcousticDensity
from .equations import Elastic as Elastic
from .equations import Faces as Faces
from .equations import FreeSurface as FreeSurface
from .equations import Port as Port
from .equations import Sponge as Sponge
from .equations import Symbols as Symbols
from .equations import System as System
from .equations import TimeStepping as TimeStepping
from .equations import Update as Update
from .equations import Viscoacoustic as Viscoacoustic
from .grid import Grid as Grid
from .layering import GrowthInLayers as GrowthInLayers
from .propagator import Propagator as Propagator
from .second_order import hvp as hvp
from .silence import SilentReceivers as SilentReceivers
from .silence import SuspiciousPositions as SuspiciousPositions
from .survey import Extended as Extended
from .survey import Survey as Survey
from .survey import line as line
from .testing import dot_test as dot_test
from .wavelets import gaussian as gaussian
from .wavelets import klauder as klauder
from .wavelets import ormsby as ormsby
from .wavelets import ricker as ricker
from .wavelets import sweep as sweep
from .wavelets import tone_burst as tone_burst

if TYPE_CHECKING:
    from . import datasets as datasets
    from . import misfits as misfits
    from . import nn as nn
    from . import plotting as plotting
    from . import stability as stability
    from .inversion import FWIResult as FWIResult
    from .inversion import Interrupted as Interrupted
    from .inversion import LSRTMResult as LSRTMResult
    from .inversion import UnsavedState as UnsavedState
    from .inversion import fwi as fwi
    from .inversion import lsrtm as lsrtm
    from .inversion import preconditioners as preconditioners
    from .jacobian import Jacobian as Jacobian

# Loaded on first use: they bring optax, lineax and matplotlib, which modelling does without.
_LATER = {
    "fwi": "inversion",
    "FWIResult": "inversion",
    "Interrupted": "inversion",
    "UnsavedState": "inversion",
    "lsrtm": "inversion",
    "LSRTMResult": "inversion",
    "preconditioners": "inversion.preconditioners",
    "misfits": "inversion.misfits",
    "datasets": "datasets",
    "nn": "nn",
    "plotting": "plotting",
    "stability": "stability",
    "Jacobian": "jacobian",
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
