"""Clients that train a LoRA of their own, and the float64 sum of what they did."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from peft import LoraConfig
from torch import Tensor

from hsplit_flower.adapters import LowRank
from hsplit_flower.adapters.peft_state import PREFIX
from tests.reference.aggregation import relative_error
from tests.strategies.local_grid import LocalGrid

SHAPES = {"layers.0.q_proj": (12, 10), "layers.1.q_proj": (12, 10), "layers.1.up_proj": (9, 20)}
ALPHA = 16
State = dict[str, Tensor]
Products = dict[str, Tensor]


def config_of(rank: int, **options: Any) -> LoraConfig:
    """What a client of this rank gives PEFT."""
    return LoraConfig(r=rank, lora_alpha=ALPHA, target_modules=[*SHAPES], **options)


def fresh(rank: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> State:
    """Factors as PEFT starts them: B zero, A random."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for name, (out_features, in_features) in SHAPES.items():
        a = torch.rand(rank, in_features, generator=random) * 2 - 1
        state[f"{PREFIX}{name}.lora_A.weight"] = (a / math.sqrt(in_features)).to(dtype)
        state[f"{PREFIX}{name}.lora_B.weight"] = torch.zeros(out_features, rank, dtype=dtype)
    return state


def products(state: Mapping[str, Tensor], *, is_stabilised: bool = False) -> Products:
    """What PEFT adds to each weight, in float64."""
    found = {}
    for name in SHAPES:
        b, a = (state[f"{PREFIX}{name}.lora_{kind}.weight"].double() for kind in "BA")
        scale = ALPHA / (math.sqrt(len(a)) if is_stabilised else len(a))
        found[name] = scale * b @ a
    return found


def loaded(own: State, given: State) -> State:
    """As ``set_peft_model_state_dict(…, ignore_mismatched_sizes=True)`` does."""
    return {
        key: given[key] if given[key].shape == tensor.shape else tensor
        for key, tensor in own.items()
    }


def halved(own: State, given: State) -> State:
    """As a client that takes the first rows of what it is given."""
    return {
        key: given[key][tuple(slice(0, size) for size in tensor.shape)].clone()
        for key, tensor in own.items()
    }


def with_nan(state: State) -> State:
    return state | {next(iter(state)): torch.full_like(next(iter(state.values())), math.nan)}


def with_other_keys(state: State) -> State:
    return {key.replace("q_proj", "k_proj"): tensor for key, tensor in state.items()}


def with_other_shapes(state: State) -> State:
    return {key: tensor[:, :-1] if ".lora_A." in key else tensor for key, tensor in state.items()}


def with_too_much(state: State) -> State:
    return {key: torch.full_like(tensor, 1e9) for key, tensor in state.items()}


FAULTS: dict[str, Callable[[State], State]] = {
    "nan": with_nan,
    "keys": with_other_keys,
    "shapes": with_other_shapes,
    "diverged": with_too_much,
    "nothing": lambda state: {},
}


@dataclass(kw_only=True)
class Federation:
    """A client of each rank, and what all of them did that should count."""

    is_stabilised: bool = False
    load: Callable[[State, State], State] = loaded
    changes: dict[int, dict[int, tuple[float, Products]]] = field(default_factory=dict)
    given: dict[tuple[int, int], State] = field(default_factory=dict)

    def grid(self, *nodes: dict[str, Any]) -> LocalGrid:
        """Nodes 1, 2, … with these configurations."""
        return LocalGrid(self.app(), dict(enumerate(nodes, start=1)))

    def app(self) -> ClientApp:
        """Answers with what it was given, changed at random."""
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            server_round = int(message.content["config"]["server-round"])  # type: ignore[index,arg-type]
            return Message(
                self.reply(message, context.node_config, context.node_id, server_round),
                reply_to=message,
            )

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            given = message.content.array_records["arrays"].to_torch_state_dict()
            rank = len(next(iter(given.values())))
            metrics = MetricRecord({"rank": rank, "num-examples": 1})
            return Message(RecordDict({"metrics": metrics}), reply_to=message)

        return app

    def reply(
        self, message: Message, node: Mapping[str, Any], node_id: int, server_round: int
    ) -> RecordDict:
        given = message.content.array_records["arrays"].to_torch_state_dict()
        self.given[server_round, node_id] = given
        rank = int(node["rank"])
        own = self.load(fresh(rank, seed=node_id), given)
        random = torch.Generator().manual_seed(1000 * server_round + node_id)
        trained = {
            key: tensor + 0.1 * torch.randn(tensor.shape, generator=random)
            for key, tensor in own.items()
        }
        start, end = (products(s, is_stabilised=self.is_stabilised) for s in (own, trained))
        weight = node.get("examples", 10 * node_id)
        fault = node.get("fault", "")
        if not fault:
            change = {name: end[name] - start[name] for name in end}
            self.changes.setdefault(server_round, {})[node_id] = float(weight), change
        arrays = FAULTS[str(fault)](trained) if fault else trained
        metrics = MetricRecord({"train_loss": float(node_id), "num-examples": weight})
        return RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})

    def exact(self, initial: Mapping[str, Tensor], leaving_out: Sequence[tuple[int, int]] = ()):
        """``W + Σ_t Σ_i p_i (B_i A_i − B⁰_i A⁰_i)`` in float64, over all rounds so far."""
        total = products(initial, is_stabilised=self.is_stabilised)
        for server_round, clients in self.changes.items():
            counted = {n: c for n, c in clients.items() if (server_round, n) not in leaving_out}
            weights = sum(weight for weight, _ in counted.values())
            for weight, change in counted.values():
                total = {name: total[name] + weight / weights * change[name] for name in total}
        return total


def assert_is(updates: Mapping[str, LowRank], wanted: Products, tolerance: float = 1e-6) -> None:
    """Weight by weight, to a relative error."""
    assert updates.keys() == wanted.keys()
    for name, update in updates.items():
        error = relative_error(update, wanted[name])
        assert error <= tolerance, (name, error)
