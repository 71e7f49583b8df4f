"""`python -m ondax doctor`: what ondax needs of a machine, looked at and tried, with remedies."""

from .examination import examine as examine
