"""What ondax takes of Devito, which is imported with our settings (see `_devito_settings`).

This module is imported where schemes are derived, which most processes never do. Modules that every
process needs take from Devito by `_symbolic` instead, when they are first asked for a scheme.
"""

from . import _devito_settings  # noqa: F401

# isort: split

from devito import Dimension as Dimension
from devito import Eq as Eq
from devito import Function as Function
from devito import Inc as Inc
from devito import Operator as Operator
from devito import SubDomain as SubDomain
from devito import TimeFunction as TimeFunction
from devito.core import cpu as cpu
from devito.finite_differences import Derivative as Derivative
from devito.finite_differences import finite_difference as finite_difference
from devito.ir.iet import Expression as Expression
from devito.ir.iet import FindNodes as FindNodes
from devito.ir.iet import Iteration as Iteration
from devito.ir.support import Backward as Backward
from devito.passes.clusters import fusion as fusion
from devito.symbolics import retrieve_indexed as retrieve_indexed
from devito.types import Buffer as Buffer
from devito.types import Symbol as Symbol
from devito.types import Timer as Timer
