"""The methods as Flower strategies, one a file."""

from .hsplit_lora import HSplitLoRA as HSplitLoRA
from .round_report import ClientReport as ClientReport
from .round_report import RoundReport as RoundReport
from .server_evaluation import ServerEvaluation as ServerEvaluation
from .training import Training as Training
