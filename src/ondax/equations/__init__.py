"""Wave equations: physics only. Nothing here runs anything."""

from .acoustic import Acoustic as Acoustic
from .acoustic_density import AcousticDensity as AcousticDensity
from .base import AbstractBoundary as AbstractBoundary
from .base import AbstractWaveEquation as AbstractWaveEquation
from .boundaries import Sponge as Sponge
from .system import Port as Port
from .system import Symbols as Symbols
from .system import System as System
from .system import Update as Update
