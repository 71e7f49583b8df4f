"""What a run keeps of its wavefields for the runs that linearise around it.

These names are what a way of your own to keep histories is written with; see `AbstractHistory`.
"""

from .base import AbstractHistory as AbstractHistory
from .base import Packing as Packing
from .base import Recorder as Recorder
from .base import Rerun as Rerun
from .base import Stretch as Stretch
from .base import borrowed as borrowed
from .base import unkept as unkept
from .buffers import Layout as Layout
from .buffers import Stored as Stored
from .buffers import zeros as zeros
from .store import Kept as Kept
