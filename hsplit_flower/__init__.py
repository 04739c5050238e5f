"""HSplitLoRA on Flower: fine-tune one language model across devices none of which holds it whole.

The public names are listed here and loaded when they are first asked for, so that a core room can
be imported where flwr, grpc and ray are not installed.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .others_words import leave_out

if TYPE_CHECKING:
    from .adapters import LowRank as LowRank
    from .adapters import export_adapter as export_adapter
    from .adapters import import_adapter as import_adapter
    from .client.app import describe_device as describe_device
    from .client.app import split_evaluate as split_evaluate
    from .client.app import split_train as split_train
    from .client.split_generation import split_generate as split_generate
    from .client.step_log import StepDone as StepDone
    from .errors import HSplitError as HSplitError
    from .server import RoundReport as RoundReport
    from .server import RunState as RunState
    from .server import ServerEvaluation as ServerEvaluation
    from .settings import Aggregation as Aggregation
    from .settings import Client as Client
    from .settings import Decoding as Decoding
    from .settings import Link as Link
    from .settings import Model as Model
    from .settings import Planning as Planning
    from .settings import Sampling as Sampling
    from .settings import Simulation as Simulation
    from .settings import SplitText as SplitText
    from .settings import Training as Training
    from .settings import Worker as Worker
    from .splitting import load_half as load_half
    from .strategies import HSplitLoRA as HSplitLoRA
    from .strategies import SplitLoRA as SplitLoRA
    from .strategies.noise_free_lora import NoiseFreeLoRA as NoiseFreeLoRA
    from .types import DeviceProfile as DeviceProfile
    from .types import Labels as Labels
    from .types import ScaleRule as ScaleRule
    from .types import Start as Start

_ROOM_OF = {
    "LowRank": "adapters",
    "export_adapter": "adapters",
    "import_adapter": "adapters",
    "describe_device": "client.app",
    "split_evaluate": "client.app",
    "split_train": "client.app",
    "StepDone": "client.step_log",
    "split_generate": "client.split_generation",
    "HSplitError": "errors",
    "RoundReport": "server",
    "RunState": "server",
    "ServerEvaluation": "server",
    "Aggregation": "settings",
    "Client": "settings",
    "Decoding": "settings",
    "Link": "settings",
    "Model": "settings",
    "Planning": "settings",
    "Sampling": "settings",
    "Simulation": "settings",
    "SplitText": "settings",
    "Training": "settings",
    "Worker": "settings",
    "load_half": "splitting",
    "HSplitLoRA": "strategies",
    "NoiseFreeLoRA": "strategies.noise_free_lora",
    "SplitLoRA": "strategies",
    "DeviceProfile": "types",
    "Labels": "types",
    "ScaleRule": "types",
    "Start": "types",
}

__all__ = list(_ROOM_OF)

leave_out()


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_ROOM_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
