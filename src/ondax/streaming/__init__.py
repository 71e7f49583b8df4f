"""Whole surveys, a few shots at a time: traces to files, and images from them, in memory that does
not grow with the number of shots."""

from .model import model as model
from .rtm import rtm as rtm
