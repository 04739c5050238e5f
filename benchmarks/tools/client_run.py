"""A client's real round on random weights, against a worker that answers with noise.

What the client runs is its own code: `LocalRound` with adapters, probe, optimizer and messages. The
worker's half is not there, so that what is measured is the client's.
"""

import ctypes
import gc
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from transformers import PretrainedConfig

from hsplit_flower.adapters import LowRank
from hsplit_flower.batches import Batch
from hsplit_flower.client.local_round import LocalRound
from hsplit_flower.costs import Workload
from hsplit_flower.costs.metering import LiveBytes
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Half, Parts, build_half
from hsplit_flower.transport.streams import Stream
from hsplit_flower.types import Labels, Start, WireType
from hsplit_flower.wire.messages import (
    Backward,
    Forward,
    Gradient,
    LastHidden,
    Loss,
    Reply,
    Request,
    reply_to_wire,
    request_to_wire,
)

NUM_STEPS: Final = 3
# From <malloc.h>; setting it also ends its adjustment.
M_MMAP_THRESHOLD: Final = -3
MMAP_THRESHOLD_BYTES: Final = 2**16
DTYPES: Final = {2: torch.bfloat16, 4: torch.float32}
WIRE_TYPES: Final = {2: WireType.BFLOAT16, 4: WireType.FLOAT32}


@dataclass(frozen=True, kw_only=True)
class ClientRun:
    """One client's round: of which model, at which workload, with which cut and ranks.

    ``update_ranks`` are those of the global update that the round starts from.
    """

    config: PretrainedConfig
    workload: Workload
    cut: int
    ranks: Mapping[str, int]
    update_ranks: Mapping[str, int] = field(default_factory=dict)
    start: Start = Start.CONTINUE
    labels: Labels = Labels.SERVER
    checkpointing: bool = False
    device: str = "cpu"

    @property
    def spec(self) -> SessionSpec:
        return SessionSpec(
            client=0,
            cut=self.cut,
            ranks=self.ranks,
            labels=self.labels,
            start=self.start,
            wire_type=WIRE_TYPES[self.workload.wire_dtype_bytes],
        )


class NoisyWorker(Stream):
    """Answers every request with random numbers of the right shapes.

    ``message_bytes`` is what the largest step's messages took, requests and replies.
    """

    def __init__(self, spec: SessionSpec) -> None:
        self._spec = spec
        self._by_step: dict[int, int] = {}
        self._replies: deque[Reply] = deque()

    @property
    def message_bytes(self) -> int:
        return max(self._by_step.values())

    def send(self, request: Request) -> None:
        reply = self._answer(request)
        sent = request_to_wire(request, self._spec.wire_type).ByteSize()
        received = reply_to_wire(reply, self._spec.wire_type).ByteSize()
        self._by_step[request.step] = self._by_step.get(request.step, 0) + sent + received
        self._replies.append(reply)

    def receive(self) -> Reply:
        return self._replies.popleft()

    def close(self) -> None:
        """Nothing is held open."""

    def _answer(self, request: Request) -> Reply:
        if isinstance(request, Backward):
            return Gradient(step=request.step, gradient=torch.randn_like(request.gradient))
        assert isinstance(request, Forward)
        noise = torch.randn_like(request.hidden)
        if self._spec.labels is Labels.CLIENT:
            return LastHidden(step=request.step, hidden=noise)
        return Loss(step=request.step, loss_sum=1.0, num_tokens=1, gradient=noise)


def live_peak_bytes(run: ClientRun) -> int:
    """Most bytes that the client's tensors and messages took in a round, by its own tensors.

    On a CUDA device the allocator counts, elsewhere every tensor that an operation makes.
    """
    if torch.device(run.device).type == "cuda":
        return _allocated_peak_bytes(run)
    half = _half(run)
    resident = [*half.model.parameters(), *half.model.buffers()]
    worker = NoisyWorker(run.spec)
    batches = list(_batches(run))
    held = [t for b in batches for t in (b.input_ids, b.attention_mask, b.labels) if t is not None]
    live = LiveBytes(ignore=[*resident, *held])
    with live:
        local_round = LocalRound(half, _updates(run, half), run.spec, worker)
        setting_up_bytes = live.peak_bytes
        live.reset_peak()
        local_round.train(batches, probe=True)
    # There are no messages yet while a round is set up.
    peak_bytes = max(setting_up_bytes, live.peak_bytes + worker.message_bytes)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in resident}
    held_bytes: int = sum(storages.values())
    return peak_bytes + held_bytes


def train(run: ClientRun, returns_freed: bool) -> None:
    """Build the client's half and train it, for whoever measures the process."""
    if returns_freed:
        return_freed_memory()
    half = _half(run)
    LocalRound(half, _updates(run, half), run.spec, NoisyWorker(run.spec)).train(
        _batches(run), probe=True
    )


def return_freed_memory() -> None:
    """Have the C library give freed tensors back to the system at once (glibc only).

    By itself it raises the size from which it does so to that of the largest tensor freed, and
    keeps the rest in pieces that the next tensors do not fit into.
    """
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def _allocated_peak_bytes(run: ClientRun) -> int:
    """The messages lie in the host's memory; they are counted like everywhere else."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(run.device)
    torch.cuda.reset_peak_memory_stats(run.device)
    half = _half(run)
    worker = NoisyWorker(run.spec)
    LocalRound(half, _updates(run, half), run.spec, worker).train(_batches(run), probe=True)
    peak: int = torch.cuda.max_memory_allocated(run.device)
    return peak - before + worker.message_bytes


def _half(run: ClientRun) -> Half:
    parts = Parts.of_client(run.cut, keeps_labels=run.labels is Labels.CLIENT)
    dtype = DTYPES[run.workload.dtype_bytes]
    half = build_half(
        run.config, parts, dtype=dtype, device=run.device, quantised=run.workload.quantised
    )
    half.model.config._attn_implementation = run.workload.attention
    half.checkpointing = run.checkpointing
    return half


def _updates(run: ClientRun, half: Half) -> dict[str, LowRank]:
    """A global update as it arrives: of the weights that this half has, in the host's memory."""
    return {
        weight.name: LowRank(
            b=torch.randn(weight.out_features, rank).div_(rank),
            a=torch.randn(rank, weight.in_features).div_(rank),
        )
        for weight in half.architecture.weights_in(half.parts.span)
        if (rank := run.update_ranks.get(weight.name, 0))
    }


def _batches(run: ClientRun) -> Iterator[Batch]:
    shape = (run.workload.batch_size, run.workload.sequence_length)
    vocabulary = run.config.get_text_config().vocab_size
    for _ in range(NUM_STEPS):
        tokens = torch.randint(0, vocabulary, shape)
        mask = torch.ones_like(tokens)
        # One row is shorter, so that a mask is made.
        mask[0, -1] = 0
        yield Batch(input_ids=tokens, attention_mask=mask, labels=tokens)
