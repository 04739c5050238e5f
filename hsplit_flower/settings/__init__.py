"""Every setting of a run, said once: type, default, limit, unit and a sentence."""

from .aggregation import Aggregation as Aggregation
from .certificates import Certificates as Certificates
from .certificates import NodeCertificates as NodeCertificates
from .certificates import Trust as Trust
from .client import Client as Client
from .comparison import Comparison as Comparison
from .device import Device as Device
from .fields import setting as setting
from .group import Settings as Settings
from .link import Link as Link
from .link import WireFormat as WireFormat
from .model import DTYPE_BYTES as DTYPE_BYTES
from .model import Model as Model
from .planning import Planning as Planning
from .planning import PlanSettings as PlanSettings
from .reading import read as read
from .run import GROUPS as GROUPS
from .run import Groups as Groups
from .run import RunSettings as RunSettings
from .sampling import Sampling as Sampling
from .session import SessionSpec as SessionSpec
from .simulation import Simulation as Simulation
from .training import Recipe as Recipe
from .training import Training as Training
from .worker import OPERATOR_TOKEN_VARIABLE as OPERATOR_TOKEN_VARIABLE
from .worker import Worker as Worker
