"""What surrounds a model: absorbing layers and free surfaces, alike on all faces or mixed."""

from .base import AbstractBoundary as AbstractBoundary
from .base import AbstractLayer as AbstractLayer
from .base import Conditions as Conditions
from .cpml import CPML as CPML
from .faces import Faces as Faces
from .joint import JointPML as JointPML
from .sponge import Sponge as Sponge
from .surface import FreeSurface as FreeSurface
