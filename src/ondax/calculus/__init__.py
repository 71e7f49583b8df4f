"""Calculus on wave equations: `linearize`, `transpose` and the coupling of a scheme to its
coefficients.

Symbolic, and without any knowledge of physics, of data or of JAX.
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
