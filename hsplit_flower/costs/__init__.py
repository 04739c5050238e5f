"""What a configuration costs: bytes, operations and seconds, traced from the model's own code."""

from .client_peak import client_memory as client_memory
from .client_peak import whole_model_memory as whole_model_memory
from .model_costs import ModelCosts as ModelCosts
from .model_costs import PassCosts as PassCosts
from .model_costs import SavedInput as SavedInput
from .model_costs import Workload as Workload
from .model_costs import sent_as as sent_as
from .pipelining import pipelined as pipelined
from .seconds import PartSeconds as PartSeconds
from .seconds import adapter_flops as adapter_flops
from .seconds import client_seconds as client_seconds
from .seconds import latency_seconds as latency_seconds
from .seconds import link_seconds as link_seconds
from .seconds import part_seconds as part_seconds
from .seconds import seconds_at as seconds_at
from .seconds import wire_bytes as wire_bytes
from .seconds import worker_seconds as worker_seconds
from .tracing import trace_costs as trace_costs
from .whole_model import fully_trained as fully_trained
from .whole_model import without_cut as without_cut
from .worker_peak import session_rank_bytes as session_rank_bytes
from .worker_peak import worker_half_bytes as worker_half_bytes
from .worker_peak import worker_memory as worker_memory
