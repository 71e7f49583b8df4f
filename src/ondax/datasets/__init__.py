"""Models that ship with the package."""

from .overthrust import VelocitySection as VelocitySection
from .overthrust import overthrust as overthrust
