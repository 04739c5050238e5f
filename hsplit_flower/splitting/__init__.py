"""A Hugging Face decoder as two halves, and loading one half only."""

from .architecture import Architecture as Architecture
from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import load_tokenizer as load_tokenizer
from .configuration_memo import once_a_configuration as once_a_configuration
from .dtype import floating_dtype as floating_dtype
from .empty_model import MasksAreFull as MasksAreFull
from .empty_model import build_empty as build_empty
from .half import Half as Half
from .loading import build_half as build_half
from .loading import half_bytes as half_bytes
from .loading import load_half as load_half
from .model_name import known_revision as known_revision
from .model_name import locate as locate
from .parts import Parts as Parts
from .reading import describe as describe
from .reading import read_architecture as read_architecture
