"""What is wrong with an equation."""


class EquationError(ValueError):
    """A wave equation that the calculus cannot transform; the message names the offending term."""
