"""Parts of a grid as Devito knows them."""

from __future__ import annotations

from typing import Any

from .._devito import SubDomain
from .symbols import Region


class Part(SubDomain):
    """Strips along edges of the grid.

    Args:
        region: which.
        of: the name of the function that is stored there.
        thickness: what tells it from the parts of other functions. Kernels are told the real one.
        grid: Devito's.
    """

    def __init__(self, region: Region, of: str, thickness: int, grid: Any) -> None:
        self.region, self.thickness = dict(region), thickness
        self.name = "_".join([*(f"{axis}{side}" for axis, side in sorted(region)), of])
        super().__init__(grid=grid)

    def __subdomain_finalize__(self) -> None:
        """Devito's own also shares the strip out among MPI processes, point by point: in schemes
        with many strips, that is an eighth of the time that deriving a kernel takes."""
        self.__subdomain_finalize_legacy__(self.grid)
        self._shape_local = self._shape

    def define(self, dimensions: Any) -> dict[Any, Any]:
        # This thickness only has to differ from that of others, or they would be one to Devito.
        sides = {"low": ("left", self.thickness), "high": ("right", self.thickness)}
        return {d: sides[self.region[d.name]] if d.name in self.region else d for d in dimensions}
