"""Wave operators as equinox layers.

They stand in `eqx.nn.Sequential` beside convolutions and dense layers, and follow equinox: channels
first, no batch axis (`jax.vmap` adds one). The channels of a model or image are the equation's
parameters in its order, those of traces and weights are shots:

    model, image    (parameter, *grid)
    traces          (shot, [component,] receiver, time)
    wavelets        (shot, [component,] source, time)
    weights         (shot, *grid)
    wavefield       (shot, frame, *coarse grid)

A layer is fixed unless asked: what it is made with (wavelet, positions, background model) is no
leaf of the network's tree, so `eqx.filter_grad` neither trains nor pays for it, unless
`trainable=True` makes it one.
"""

from .born import Born as Born
from .born import Migration as Migration
from .extended import ExtendedAdjoint as ExtendedAdjoint
from .extended import ExtendedModelling as ExtendedModelling
from .modelling import AdjointModelling as AdjointModelling
from .modelling import LinearModelling as LinearModelling
from .modelling import Modelling as Modelling
from .wavefield import WavefieldAdjoint as WavefieldAdjoint
from .wavefield import WavefieldModelling as WavefieldModelling
from .wavefield import WavefieldSource as WavefieldSource
