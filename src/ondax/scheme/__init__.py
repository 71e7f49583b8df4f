"""The language of schemes: symbols, updates and ports. No physics, no JAX, no data."""

from .errors import EquationError as EquationError
from .symbols import AXIS_NAMES as AXIS_NAMES
from .symbols import EVEN as EVEN
from .symbols import ODD as ODD
from .symbols import Symbols as Symbols
from .system import Port as Port
from .system import System as System
from .system import Update as Update
