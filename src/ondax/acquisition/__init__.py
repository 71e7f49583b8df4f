"""How sources and receivers touch the grid and the clock."""
