"""Calculus on schemes: from a `System` to others, and to what couples it to its coefficients.

All of it transforms symbols: nothing here knows physics or data, or computes with JAX.
"""

from .check import checked as checked
from .coupling import Coupling as Coupling
from .coupling import Quantity as Quantity
from .coupling import couple as couple
from .layers import stretched as stretched
from .linearize import linearize as linearize
from .regions import reach as reach
from .transpose import transpose as transpose
