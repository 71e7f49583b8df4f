"""Schemes as C kernels that Devito generates, on the CPU, shots side by side."""
