"""A worker with random weights, sessions on it, and the same training through PEFT alone."""

import copy
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import LlamaConfig, PretrainedConfig

from hsplit_flower.metrics import count_label_tokens, summed_token_loss
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Half, Parts, build_half
from hsplit_flower.wire.messages import Forward, Loss
from hsplit_flower.worker.admission import check_content
from hsplit_flower.worker.session import Session
from hsplit_flower.worker.stage import Stage

ALPHA: Final = 16
LEARNING_RATE: Final = 1e-4


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model, its numbers, and what one session sends at a time."""

    name: str
    width: int
    feed_forward: int
    num_blocks: int
    num_heads: int
    num_key_value_heads: int
    vocabulary: int
    rows: int
    seq: int
    dtype: torch.dtype
    device: str

    def config(self) -> PretrainedConfig:
        """The model's configuration."""
        return LlamaConfig(
            hidden_size=self.width,
            intermediate_size=self.feed_forward,
            num_hidden_layers=self.num_blocks,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
        )

    @property
    def num_tokens(self) -> int:
        """Of one session's micro-batch."""
        return self.rows * self.seq


def take_all_cores() -> int:
    """Compute with every core that there is, as a worker with a machine of its own does.

    Torch would take as many threads as the environment says, which is one where tests run.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return torch.get_num_threads()


def shape_for(*, quick: bool) -> Shape:
    """LLaMA of a billion weights where there is a GPU, else one that two cores can train."""
    if torch.cuda.is_available():
        return Shape(
            name="LLaMA-1B, bfloat16",
            width=2048,
            feed_forward=8192,
            num_blocks=16,
            num_heads=32,
            num_key_value_heads=8,
            vocabulary=128256,
            rows=2,
            seq=128,
            dtype=torch.bfloat16,
            device="cuda",
        )
    return Shape(
        name="LLaMA, 8 blocks of 128, float32, 2 x 32"
        if quick
        else "LLaMA, 6 blocks of 512, float32, 2 x 64",
        width=128 if quick else 512,
        feed_forward=344 if quick else 1376,
        num_blocks=8 if quick else 6,
        num_heads=4 if quick else 8,
        num_key_value_heads=4 if quick else 8,
        vocabulary=512 if quick else 4096,
        rows=2,
        seq=32 if quick else 64,
        dtype=torch.float32,
        device="cpu",
    )


@dataclass(frozen=True, kw_only=True)
class Client:
    """One session's cut, and the rank of every weight above it."""

    cut: int
    rank: int


def worker_half(shape: Shape, lowest_cut: int, seed: int) -> Half:
    """The worker's half with random weights."""
    torch.manual_seed(seed)
    parts = Parts.of_worker(lowest_cut, shape.num_blocks)
    return build_half(shape.config(), parts, dtype=shape.dtype, device=shape.device)


def ranks_of(half: Half, client: Client) -> dict[str, int]:
    """The client's rank for every weight above its cut."""
    weights = half.architecture.weights
    return {weight.name: client.rank for weight in weights if weight.block >= client.cut}


def requests_of(shape: Shape, count: int, seed: int) -> list[Forward]:
    """What ``count`` sessions send: every token has a label."""
    generator = torch.Generator().manual_seed(seed)
    size = (shape.rows, shape.seq)
    return [
        Forward(
            step=1,
            hidden=torch.randn(*size, shape.width, generator=generator).to(shape.dtype),
            labels=torch.randint(shape.vocabulary, size, generator=generator),
        )
        for _ in range(count)
    ]


class BatchedWorker:
    """Sessions of ours, a step of all of them at a time, in one pass."""

    def __init__(self, half: Half, clients: Sequence[Client], requests: Sequence[Forward]) -> None:
        self.half = half
        self.stage = Stage(half)
        self._requests = requests
        self.sessions: list[Session] = []
        for client in clients:
            self.open(client)

    def open(self, client: Client) -> None:
        """One session more."""
        spec = SessionSpec(
            client=len(self.sessions),
            cut=client.cut,
            ranks=ranks_of(self.half, client),
            lora_alpha=ALPHA,
            learning_rate=LEARNING_RATE,
            seed=len(self.sessions),
        )
        self.sessions.append(self.stage.open(spec))

    def step(self) -> list[Loss]:
        """One step of every session: checks, forward, back, optimizers."""
        asked = []
        for session, request in zip(self.sessions, self._requests, strict=False):
            following = _with_step(request, session.num_steps + 1)
            check_content(following, session.spec, self.half.architecture)
            asked.append((session, following))
        replies = self.stage.handle_together(asked)
        synchronise(self.half)
        losses = []
        for reply in replies:
            if not isinstance(reply, Loss):
                raise RuntimeError(f"a step of the benchmark failed: {reply!r}")
            losses.append(reply)
        return losses


class PeftModel:
    """The same half with adapters of PEFT on it: plain LoRA, one at a time."""

    def __init__(self, half: Half, clients: Sequence[Client]) -> None:
        # Another tree of modules on the same numbers, so that both sides read the same memory.
        shared = {id(p): p for p in (*half.model.parameters(), *half.model.buffers())}
        self.half = Half(copy.deepcopy(half.model, shared), half.architecture, half.parts)
        self._clients = clients
        self._optimizers = []
        for number, client in enumerate(clients):
            ranks = ranks_of(half, client)
            config = LoraConfig(r=client.rank, lora_alpha=ALPHA, target_modules=list(ranks))
            with warnings.catch_warnings():
                # Several adapters on a model are what is wanted here.
                warnings.filterwarnings("ignore", message=".*more than one.*|.*[Aa]lready.*")
                inject_adapter_in_model(config, self.half.model, adapter_name=str(number))
        self._layers = [m for m in self.half.model.modules() if isinstance(m, LoraLayer)]
        for number in range(len(clients)):
            self._choose(number)
            factors = [p for p in self.half.model.parameters() if p.requires_grad]
            self._optimizers.append(torch.optim.AdamW(factors, lr=LEARNING_RATE, fused=True))

    def step(self, number: int, request: Forward) -> float:
        """One step of one client: forward, back, optimizer; its summed loss."""
        if len(self._clients) > 1:
            self._choose(number)
        model, device = self.half.model, self.half.device
        model.train()
        hidden = request.hidden.to(device).requires_grad_()
        assert request.labels is not None
        labels = request.labels.to(device)
        logits = self.half.logits(hidden, None, start=self._clients[number].cut)
        loss_sum = summed_token_loss(logits, labels)
        (loss_sum / count_label_tokens(request.labels)).backward()
        value = float(loss_sum.detach())
        self._optimizers[number].step()
        self._optimizers[number].zero_grad(set_to_none=True)
        return value

    def step_all(self, requests: Sequence[Forward]) -> None:
        """One step of every client, one after another."""
        for number, request in enumerate(requests):
            self.step(number, request)
        synchronise(self.half)

    def load(self, number: int, session: Session) -> None:
        """Make a client's adapters what those of a session of ours are."""
        with torch.no_grad():
            for name, trainable in session.trainables.items():
                layer: Any = self.half.model.get_submodule(name)
                layer.lora_A[str(number)].weight.copy_(trainable.a)
                layer.lora_B[str(number)].weight.copy_(trainable.b)

    def _choose(self, number: int) -> None:
        for layer in self._layers:
            if str(number) in layer.lora_A:
                layer.set_adapter([str(number)])


def joined(requests: Sequence[Forward]) -> Forward:
    """The batches of all clients as one."""
    return Forward(
        step=1,
        hidden=torch.cat([request.hidden for request in requests]),
        labels=torch.cat([_labels(request) for request in requests]),
    )


def synchronise(half: Half) -> None:
    """Wait for what the device still has to do."""
    if half.device.type == "cuda":
        torch.cuda.synchronize()


def _labels(request: Forward) -> Tensor:
    assert request.labels is not None
    return request.labels


def _with_step(request: Forward, step: int) -> Forward:
    return Forward(step=step, hidden=request.hidden, labels=request.labels)
