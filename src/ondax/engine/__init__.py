"""From a symbolic scheme to numbers: compiled kernels, histories, shots in parallel. Knows no
physics and no JAX."""

from .buffers import OutOfMemory as OutOfMemory
from .buffers import release_memory as release_memory
from .compiler import CompilerError as CompilerError
from .discretisation import HALF_STEP_BACK as HALF_STEP_BACK
from .discretisation import Discretisation as Discretisation
from .emit import Scheme as Scheme
from .history import STORE as STORE
from .kernel_cache import KernelCacheWarning as KernelCacheWarning
from .mirror import vanishes_at_surface as vanishes_at_surface
from .programs import Programs as Programs
from .programs import Wanted as Wanted
from .sampling import check_sampling as check_sampling
from .settings import Settings as Settings
from .solver import Experiment as Experiment
from .solver import Solver as Solver
from .step_limit import Motion as Motion
