"""Between JAX and the backends: operands, primitives, their rules, and calls to the host."""
