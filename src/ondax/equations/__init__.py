"""Wave equations and boundaries: physics, stated as symbols. Nothing here computes a wavefield."""

from .acoustic import Acoustic as Acoustic
from .acoustic_density import AcousticDensity as AcousticDensity
from .base import AbstractBoundary as AbstractBoundary
from .base import AbstractLayer as AbstractLayer
from .base import AbstractWaveEquation as AbstractWaveEquation
from .base import Conditions as Conditions
from .boundaries import CPML as CPML
from .boundaries import Faces as Faces
from .boundaries import FreeSurface as FreeSurface
from .boundaries import Sponge as Sponge
from .elastic import Elastic as Elastic
from .system import AXIS_NAMES as AXIS_NAMES
from .system import EVEN as EVEN
from .system import ODD as ODD
from .system import Port as Port
from .system import Symbols as Symbols
from .system import System as System
from .system import Update as Update
from .time_stepping import LEAPFROG as LEAPFROG
from .time_stepping import TimeStepping as TimeStepping
from .tti import TTI as TTI
from .viscoacoustic import Viscoacoustic as Viscoacoustic
from .vti import VTI as VTI
