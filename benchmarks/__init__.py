"""Benchmarks of ondax against hand-written Devito, deepwave and plain JAX: `python -m
benchmarks`."""
