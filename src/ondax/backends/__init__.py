"""What runs a scheme: from symbols and arrays to traces and gradients. Knows no JAX."""
