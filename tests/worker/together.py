"""Clients of all kinds, trained alone and together, and what is compared of it."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from hsplit_flower.settings import SessionSpec
from hsplit_flower.types import ScaleRule, Start
from hsplit_flower.wire.messages import Forward, Loss
from hsplit_flower.worker import Stage
from hsplit_flower.worker.session import Session
from tests.families import fields
from tests.rounds import architecture, global_update, ranks
from tests.tolerances import assert_same
from tests.worker.steps import factors_of
from tests.workers import load_worker

Trace = list[list[dict[str, Tensor]]]

WIDTH = 16
STEPS = (1, 2, 3)


@dataclass(frozen=True)
class Client:
    """What tells one client from another: its session, and the form of its batches."""

    cut: int
    rows: int
    seq: int
    padding: str = "unpadded"
    rank: int | None = None
    lora_alpha: float = 4.0
    scale_rule: ScaleRule = ScaleRule.LORA
    start: Start = Start.CONTINUE
    lora_dropout: float = 0.0
    label_smoothing: float = 0.0

    def spec(self, name: str, client: int) -> SessionSpec:
        weights = architecture(name).weights
        return SessionSpec(
            client=client,
            cut=self.cut,
            ranks=ranks(name) if self.rank is None else {w.name: self.rank for w in weights},
            lora_alpha=self.lora_alpha,
            scale_rule=self.scale_rule,
            start=self.start,
            lora_dropout=self.lora_dropout,
            label_smoothing=self.label_smoothing,
            dropout_seed=client,
            learning_rate=1e-2,
            seed=client,
        )

    def request(self, step: int, client: int) -> Forward:
        seed = 100 * client + step
        batch = {k: v[: self.rows] for k, v in fields(self.padding, seed, self.seq).items()}
        generator = torch.Generator().manual_seed(seed)
        return Forward(
            step=step,
            hidden=torch.randn(self.rows, self.seq, WIDTH, generator=generator),
            labels=batch["labels"],
            attention_mask=None if self.padding == "unpadded" else batch["attention_mask"],
        )


MIXED = [
    Client(cut=3, rows=2, seq=9),
    Client(cut=1, rows=1, seq=12, rank=2),
    Client(cut=1, rows=3, seq=9, padding="right", lora_alpha=1.0),
    Client(cut=2, rows=3, seq=7, padding="left", rank=0),
    Client(cut=1, rows=3, seq=6, rank=5, start=Start.RESTART, scale_rule=ScaleRule.RSLORA),
    Client(cut=2, rows=2, seq=12, padding="right", scale_rule=ScaleRule.CONSTANT),
]
# Who sees all of its input, and whose labels are as they are, runs apart from the others.
DROPPING = [
    *(replace(client, lora_dropout=0.3) for client in MIXED),
    replace(MIXED[0], lora_dropout=0.3, label_smoothing=0.2),
    MIXED[1],
]
ALIKE = [Client(cut=2, rows=3, seq=9, rank=4) for _ in range(4)]


@dataclass(frozen=True)
class Trained:
    """What a session was told, the gradients that it stepped by, and where it came."""

    replies: list[Loss]
    gradients: list[dict[str, Tensor]]
    session: Session


def new_stage(name: str) -> Stage:
    stage = Stage(load_worker(name))
    stage.load_update(global_update(name))
    return stage


def open_all(stage: Stage, name: str, clients: list[Client]) -> list[Trained]:
    opened = []
    for number, client in enumerate(clients):
        trained = Trained(replies=[], gradients=[], session=stage.open(client.spec(name, number)))
        _note_gradients(trained)
        opened.append(trained)
    return opened


def _note_gradients(trained: Trained) -> None:
    session = trained.session

    def note(*_: object) -> None:
        trained.gradients.append(
            {
                f"{name}.{kind}": getattr(trainable, kind).grad.clone()
                for name, trainable in session.trainables.items()
                for kind in ("b", "a")
            }
        )

    if session.optimizer is not None:
        session.optimizer.register_step_pre_hook(note)


@torch.no_grad()
def load_factors(session: Session, factors: dict[str, Tensor]) -> None:
    for name, trainable in session.trainables.items():
        trainable.b.copy_(factors[f"{name}.b"])
        trainable.a.copy_(factors[f"{name}.a"])


def assert_same_training(together: Trained, alone: Trained) -> None:
    for step, (got, wanted) in enumerate(zip(together.replies, alone.replies, strict=True), 1):
        assert got.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-5)
        assert (got.step, got.num_tokens) == (wanted.step, wanted.num_tokens)
        assert_same(got.gradient, wanted.gradient, f"step {step}: the hidden state's gradient")
    for got, wanted in zip(together.gradients, alone.gradients, strict=True):
        assert got.keys() == wanted.keys()
        for name, gradient in wanted.items():
            assert_same(got[name], gradient, f"gradient of {name}")


def train_all(
    stage: Stage,
    name: str,
    clients: list[Client],
    *,
    together: bool,
    trace: Trace | None = None,
) -> list[Trained]:
    """Three steps of all clients.

    ``trace`` is filled with the factors that each step began with; or, if it is full, each step
    begins with those: Adam makes much of the last bit of a small gradient, and here it is gradients
    that are compared, from the same factors.
    """
    opened = open_all(stage, name, clients)
    trace = [] if trace is None else trace
    for step in STEPS:
        if len(trace) < step:
            trace.append([factors_of(trained.session) for trained in opened])
        for trained, factors in zip(opened, trace[step - 1], strict=True):
            load_factors(trained.session, factors)
        asked = [
            (trained.session, client.request(step, number))
            for number, (trained, client) in enumerate(zip(opened, clients, strict=True))
        ]
        if together:
            replies = stage.handle_together(asked)
        else:
            replies = [stage.handle(session, request) for session, request in asked]
        for trained, reply in zip(opened, replies, strict=True):
            assert isinstance(reply, Loss), reply
            trained.replies.append(reply)
    return opened
