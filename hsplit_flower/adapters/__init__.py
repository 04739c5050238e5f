"""Low-rank updates: their algebra, attaching them to a model, and PEFT checkpoints of them."""

from .attach import attach as attach
from .attach import detach as detach
from .bank import AdapterBank as AdapterBank
from .batched import Active as Active
from .batched import BatchedAdapters as BatchedAdapters
from .batched import BatchMember as BatchMember
from .batched import NotRowwiseError as NotRowwiseError
from .low_rank import LowRank as LowRank
from .low_rank import compress as compress
from .low_rank import concatenate as concatenate
from .peft_checkpoint import export_adapter as export_adapter
from .peft_checkpoint import import_adapter as import_adapter
from .peft_config import PeftSettings as PeftSettings
from .peft_state import from_state_dict as from_state_dict
from .peft_state import to_state_dict as to_state_dict
from .peft_state import updates_of_peft as updates_of_peft
from .round_start import merged_names as merged_names
from .round_start import starting_points as starting_points
from .round_start import take_starting_points as take_starting_points
from .start import StartingPoint as StartingPoint
from .start import initial_update as initial_update
from .start import starting_point as starting_point
from .trainable import Trainable as Trainable
from .trainable import adapter_optimizer as adapter_optimizer
from .trainable import collect as collect
from .update_sum import UpdateSum as UpdateSum
