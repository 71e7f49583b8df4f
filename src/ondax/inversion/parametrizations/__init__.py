"""What is inverted for, in place of the model itself: `fwi(..., parameters=p)`.

A parametrisation maps what is inverted for to the model that the propagator takes. It also knows
the way back: what is inverted for at the start, and its bounds, from those of the model::

    p = ox.parametrizations.slowness()
    result = ox.fwi(F, observed, p.from_model(vp0), parameters=p, bounds=p.bounds(1500.0, 4500.0))
    vp = p(result.model)

They are composed by `|`, applied from left to right, from what is inverted for towards the model.
Gradients are those of the chain rule, made by JAX, so they are exact and suit L-BFGS.
"""

from .base import Parametrization as Parametrization
from .conditioned import conditioned as conditioned
from .several import gardner as gardner
from .several import impedance as impedance
from .several import lame as lame
from .values import between as between
from .values import logarithm as logarithm
from .values import scaled as scaled
from .values import slowness as slowness
from .values import squared_slowness as squared_slowness
