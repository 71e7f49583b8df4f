"""Wave operators as equinox layers.

They can be used in `eqx.nn.Sequential` beside convolutions and dense layers, and follow equinox:
channels come first, and there is no batch axis (`jax.vmap` adds one). The channels of a model or
image are the parameters of the equation, in its order; those of all others are shots:

    model, image    (parameter, *grid)
    traces          (shot, [component,] receiver, time)
    wavelets        (shot, [component,] source, time)
    weights         (shot, *grid)
    wavefield       (shot, frame, *coarse grid)

By default nothing in a layer is trained: the wavelet, the positions and the background model that
it is made with are not leaves of the network's tree, so `eqx.filter_grad` computes no gradients of
them. `trainable=True` makes the model a leaf, and a wavelet given to a layer is always one.
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
