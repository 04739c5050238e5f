"""A ClientApp as a user would write it, ways to misbehave, and a worker that is watched."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor

from hsplit_flower.adapters import LowRank, from_state_dict
from hsplit_flower.client.app import describe_device, split_evaluate, split_train
from hsplit_flower.settings import SessionSpec, Trust
from hsplit_flower.types import WorkerDescription
from hsplit_flower.wire.factors import SessionResult
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, UPDATE_KEY, Instructions
from hsplit_flower.wire.work_done import WorkDone
from hsplit_flower.worker.handle import WorkerHandle
from tests.families import fields

# Flower's node ids fill 64 bits.
NODES = (13816022929839679101, 8939289273757598247, 7)
NAMES = {node: f"clinic-{partition}" for partition, node in enumerate(NODES)}
NUM_EXAMPLES = {0: 10, 1: 30, 2: 5}
NUM_STEPS = 2

Batches = Iterable[Mapping[str, Tensor]]
Train = Callable[[Message, Context, Batches], Message]


def partition_of(context: Context) -> int:
    """Which client this is."""
    return int(context.node_config["partition-id"])


def node_configs(*, count: int = 3, **settings: Any) -> dict[int, dict[str, Any]]:
    """What the first nodes are started with."""
    return {
        node: {
            "partition-id": partition,
            "num-partitions": len(NODES),
            "name": NAMES[node],
            **settings,
        }
        for partition, node in enumerate(NODES[:count])
    }


def batches(
    partition: int, server_round: int, *, steps: int = NUM_STEPS
) -> list[dict[str, Tensor]]:
    """A client's batches of one round."""
    return [fields("right", seed=100 * server_round + 10 * partition + i) for i in range(steps)]


def held_out(partition: int) -> list[dict[str, Tensor]]:
    """A client's batches for evaluation."""
    return [fields(kind, seed=1000 + partition) for kind in ("unpadded", "left")]


def client_app(
    *,
    faults: Mapping[int, Train] | None = None,
    train_part: Train = split_train,
    evaluate_part: Train = split_evaluate,
) -> ClientApp:
    """An app as a user would write it; ``faults`` says who trains how instead, by partition."""
    app = ClientApp()

    @app.query()
    def query(msg: Message, context: Context) -> Message:
        return describe_device(msg, context, NUM_EXAMPLES[partition_of(context)])

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        partition = partition_of(context)
        server_round = int(msg.content.config_records["config"]["server-round"])
        how = (faults or {}).get(partition, train_part)
        return how(msg, context, batches(partition, server_round))

    @app.evaluate()
    def evaluate(msg: Message, context: Context) -> Message:
        return evaluate_part(msg, context, held_out(partition_of(context)))

    return app


def address_in(message: Message) -> str:
    """Where a message says that its client's session is."""
    told = Instructions.from_config(message.content.config_records[INSTRUCTIONS_KEY])
    return told.address


def trained_below(replies: Iterable[Message]) -> dict[int, dict[str, LowRank]]:
    """What clients sent back of their half, by node."""
    return {
        reply.metadata.src_node_id: from_state_dict(
            reply.content.array_records[UPDATE_KEY].to_torch_state_dict()
        )
        for reply in replies
    }


def with_reply(change: Callable[[Any], None]) -> Train:
    """Train as one should, then change the reply's records before they are sent."""

    def train(msg: Message, context: Context, some: Batches) -> Message:
        reply = split_train(msg, context, some)
        if reply.has_content():
            change(reply.content)
        return reply

    return train


def change_factors(content: Any, change: Callable[[Tensor], Tensor], factor: str = "A") -> None:
    """Change a factor of the first trained weight of a reply."""
    state = content.array_records["hsplit-update"].to_torch_state_dict()
    key = next(key for key in state if key.endswith(f"lora_{factor}.weight"))
    state[key] = change(state[key])
    content["hsplit-update"] = ArrayRecord(state)


@dataclass
class WatchedWorker:
    """A worker that passes everything on, and keeps a list of what was asked and answered."""

    worker: WorkerHandle
    specs: dict[str, SessionSpec] = field(default_factory=dict)
    results: dict[int, SessionResult] = field(default_factory=dict)
    open_tokens: set[str] = field(default_factory=set)
    num_loads: int = 0
    is_stopped: bool = False

    @property
    def address(self) -> str:
        return self.worker.address

    @property
    def trust(self) -> Trust:
        return self.worker.trust

    def describe(self) -> WorkerDescription:
        return self.worker.describe()

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        self.num_loads += 1
        self.worker.load_update(updates)

    def open(self, spec: SessionSpec) -> str:
        token = self.worker.open(spec)
        self.specs[token] = spec
        self.open_tokens.add(token)
        return token

    def steps(self) -> Mapping[int, int]:
        return self.worker.steps()

    def work_done(self) -> WorkDone:
        return self.worker.work_done()

    def collect(self, token: str) -> SessionResult:
        result = self.results[self.specs[token].client] = self.worker.collect(token)
        return result

    def close(self, token: str) -> None:
        self.worker.close(token)
        self.open_tokens.discard(token)

    def stop(self) -> None:
        self.is_stopped = True
        self.worker.stop()
