"""Calculus on wave equations: `linearize`, `transpose`, and `couple`, which relates a scheme to its
coefficients.

All of it transforms symbols: nothing here knows physics or data, or computes with JAX.
"""

from .check import checked as checked
from .linearize import linearize as linearize
from .regions import reach as reach
from .scattering import Coupling as Coupling
from .scattering import Quantity as Quantity
from .scattering import couple as couple
from .surround import stretched as stretched
from .terms import EquationError as EquationError
from .transpose import transpose as transpose
