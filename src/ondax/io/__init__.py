"""Seismic files: SEG-Y and SU headers as a catalogue, traces read when they are asked for."""

from .catalogue import Line as Line
from .models import read_model as read_model
from .notices import HeaderNotice as HeaderNotice
from .scan import scan as scan
from .shots import Shots as Shots
from .shots import open_shots as open_shots
from .stored import load as load
from .write import write_segy as write_segy
