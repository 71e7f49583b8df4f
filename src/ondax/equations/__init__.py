"""Wave equations: physics, stated as symbols. Nothing here computes a wavefield."""

from .acoustic import Acoustic as Acoustic
from .acoustic_density import AcousticDensity as AcousticDensity
from .base import AbstractWaveEquation as AbstractWaveEquation
from .elastic import Elastic as Elastic
from .time_stepping import LEAPFROG as LEAPFROG
from .time_stepping import TimeStepping as TimeStepping
from .tti import TTI as TTI
from .viscoacoustic import Viscoacoustic as Viscoacoustic
from .vti import VTI as VTI
