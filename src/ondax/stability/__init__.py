"""The largest stable time step in a model, formulas for it, and what grows in absorbing layers."""

from ..equations.stability import largest_step as largest_step
from ..equations.stability import second_derivative_bound as second_derivative_bound
from ..equations.stability import staggered_derivative_bound as staggered_derivative_bound
from ..equations.stability import staggered_step as staggered_step
from .steps import limit as limit
