"""The largest stable time step in a model, and what grows in absorbing layers."""

from .steps import limit as limit
