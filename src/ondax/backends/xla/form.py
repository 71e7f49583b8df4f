"""How stencils are written for XLA: chosen by measurement, not taste.

What was measured, of the acoustic step of order 8 (281 x 281 points, float32), compiled for an H100
and run on a CPU:

    differences written as        bytes a point and step, H100     time over C kernels, CPU
    slices of padded arrays       16.8 (least: 16)                 1.4 to 2.4
    convolutions                  70                               3.5
    rolled arrays                 23                               19
    products with band matrices   100                              11

So they are slices. Fields are padded where they are read on a CPU, and kept with a halo elsewhere.
There, rows are rounded up to a multiple of four values, and what is written is sealed by a barrier,
so that XLA does not compute a step anew inside the next. (On a CPU, XLA drops barriers.)

A loop whose body is one step copies both fields every step, because they change places. Two steps a
body suffice against that where fields have no halo; elsewhere it takes four.

Likewise of a gradient, of the whole of case A (CPU seconds on one core, without compiling):

    as it is                                                         0.38   (plain JAX: 1.14)
    fields padded for each axis by itself, not once for all axes     two copies a step more
    steps of a body stack what they keep, then write it              0.22 more, twice the memory
    histories are looked at for numbers that are not finite          0.29 more, twice the memory
    sources are added to single points, not as outer products        twice the time
    products with reciprocals in place of divisions                  the same

For a GPU it is the stacking that pays: kernels that write one step each would read all fields once
more. It needs what the first of its steps read, which is copied before others overwrite it. With
eight steps a body in place of four, a run that keeps products goes from 29.3 bytes a point and step
to 27.2. Those that keep fields gain nothing by it, and those with memories in layers lose, 62 bytes
in place of 54. Barriers behind the
memories of layers, too, would take twice the kernels, and for the acoustic equation 47 bytes in
place of 36: without them, XLA computes a memory anew in the next two or three steps.

`tests/test_compiled_steps.py` holds kernels and bytes of each equation, and
`python -m benchmarks --case xla` measures times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Form:
    """How a step is written.

    Attributes:
        halo: fields are kept with a halo, rather than padded where they are read.
        unroll: steps in the body of a loop.
        unroll_computing: the same, where a history holds what steps compute on the way, and layers
            have no memories.
        carried: histories are carried through the loop, and every step writes what it keeps;
            otherwise the steps of a body write theirs together.
        align: rows of fields with a halo are a multiple of so many values long.
        dense: up to so many points of a port are fed as outer products, which fuse with the
            stencil, rather than one by one.
    """

    halo: bool
    unroll: int
    unroll_computing: int
    align: int = 1
    carried: bool = False
    dense: int = 1

    def cut(self) -> Form:
        """The form for grids that devices share: halos are as wide as stencils reach, because all
        of them is brought from neighbours."""
        return replace(self, align=1)


ON_CPU = Form(halo=False, unroll=2, unroll_computing=2, carried=True)
ELSEWHERE = Form(halo=True, unroll=4, unroll_computing=8, align=4)


def form_for(platforms: tuple[str, ...]) -> Form:
    """The form for the platforms that a program is compiled for."""
    return ON_CPU if "cpu" in platforms else ELSEWHERE
