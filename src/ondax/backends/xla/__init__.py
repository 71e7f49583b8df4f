"""The same programs as XLA computations: wherever JAX runs."""
