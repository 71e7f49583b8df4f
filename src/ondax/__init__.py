"""Differentiable wave physics for JAX: seismic operators run by Devito-generated kernels.

This is the public interface; modules not re-exported here are private.
"""

from . import transport as _transport  # first: it must act before JAX starts its CPU client
from .calculus import EquationError as EquationError
from .engine import Settings as Settings
from .engine import release_memory as release_memory
from .equations import AbstractWaveEquation as AbstractWaveEquation
from .equations import Acoustic as Acoustic
from .equations import AcousticDensity as AcousticDensity
from .equations import Sponge as Sponge
from .grid import Grid as Grid
from .propagator import Propagator as Propagator
from .survey import Survey as Survey
from .survey import line as line
from .wavelets import ricker as ricker

del _transport
