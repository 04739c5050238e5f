"""Texts of a model of which this device has the first blocks, and a worker the rest."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from transformers import GenerationConfig

from ..adapters import LowRank, import_adapter
from ..errors import AdapterError, WorkerUnavailableError
from ..settings import Decoding, Link, Model, SessionSpec, SplitText, Worker
from ..splitting import (
    Architecture,
    Checkpoint,
    Half,
    Parts,
    floating_dtype,
    load_half,
    load_tokenizer,
    read_architecture,
)
from ..transport.channel import ChannelSettings
from ..transport.grpc_stream import GrpcStream
from ..transport.operator_token import token_towards
from ..transport.remote_worker import RemoteWorker
from ..transport.security import Security
from ..types import WireType
from ..wire.fingerprint import fingerprint_of_updates
from .goes_on_top import what_is_unsure
from .matching_halves import check_base, check_described
from .other_half import OtherHalf, attach_part
from .personal_adapter import PersonalAdapter
from .split_model import Shown, split_model
from .text_writer import TextWriter, end_ids_of

logger = logging.getLogger(__name__)

WAITING_SECONDS = 30.0
"""How long a worker may take to be there."""


@final
class SplitGenerator:
    """What has transformers' ``generate``, run on both sides of a cut.

    Parameters
    ----------
    half
        Of the device.
    reach
        Reaches that of the worker, anew for each call, until its block ends.
    """

    def __init__(self, half: Half, reach: Callable[[], AbstractContextManager[OtherHalf]]) -> None:
        self._model = split_model(half, self._follow)
        self._reach = reach
        self._other: OtherHalf | None = None
        self.device = half.device

    def _follow(self, shown: Shown) -> Tensor:
        assert self._other is not None
        return self._other.follow(shown)

    def generate(self, *, generation_config: GenerationConfig, **inputs: Any) -> Tensor:
        """Token ids, prompts included, as the whole model would give them."""
        with self._reach() as self._other:
            self._other.prepare(generation_config)
            written: Tensor = self._model.generate(generation_config=generation_config, **inputs)
        return written


def split_generate(
    prompts: Sequence[str],
    *,
    model: Model | str,
    worker: Worker,
    adapter: str | Path = "",
    personal: str | Path = "",
    decoding: Decoding | None = None,
    text: SplitText | None = None,
    link: Link | None = None,
    device: str = "cpu",
) -> list[str]:
    """What follows each prompt, written by this device and a worker.

    Parameters
    ----------
    prompts
        Written on from side by side: each takes a row of what the worker keeps.
    model
        The base, the same as the worker's.
    worker
        Where it is reached (``address``), the file of its operator's token, and certificates.
    adapter
        Folder of the adapter that the worker was started with; empty for none.
    personal
        Folder of an adapter of this device's own on top, unknown to the worker; empty for none.
    decoding, text, link
        How tokens are chosen, where the model is cut and how long texts may be, and what hidden
        states are sent as.
    device
        Where this device's half runs.

    Raises
    ------
    HSplitError
        If the halves do not belong together, or the worker refuses or cannot be reached.
    """
    how = decoding or Decoding()
    base = Model(name=model) if isinstance(model, str) else model
    with split_writer(
        base,
        worker,
        adapter=adapter,
        personal=personal,
        text=text,
        link=link,
        device=device,
        num_rows=len(prompts) * how.num_beams,
    ) as writer:
        return writer.texts([writer.encoded(prompt) for prompt in prompts], how)


@contextmanager
def split_writer(
    model: Model,
    worker: Worker,
    *,
    adapter: str | Path = "",
    personal: str | Path = "",
    text: SplitText | None = None,
    link: Link | None = None,
    device: str = "cpu",
    num_rows: int = 1,
) -> Iterator[TextWriter]:
    """A writer that reaches a worker until the block ends, with a session for each time it writes:
    nobody who is silent in between is dropped.

    ``num_rows`` are texts at a time, each of several beams counted; for the rest see
    `split_generate`.
    """
    text, link = text or SplitText(), link or Link()
    checkpoint = Checkpoint(source=model.name, revision=model.revision or None)
    updates = import_adapter(adapter) if adapter else {}
    settings, security = ChannelSettings.of(link), Security.towards(worker)
    with ExitStack() as stack:
        control = RemoteWorker(
            worker.address,
            token_towards(worker, is_to_write=True),
            settings,
            security,
            waiting_seconds=WAITING_SECONDS,
        )
        stack.callback(control.stop)
        described = control.describe()
        architecture = read_architecture(checkpoint.config())
        check_described(described, architecture, updates, worker.address)
        cut = text.cut or described.lowest_cut
        if personal:
            _look_whether_it_goes_on_top(personal, adapter)
        own = _with_personal(updates, personal, architecture, cut)
        half = _device_half(model, architecture, cut, device)
        check_base(described, checkpoint, worker.address)
        attach_part(half, own)
        spec = _spec(model, link, cut, num_rows * text.context_tokens, updates)
        reach = partial(_other_half, control, spec, settings, architecture.vocabulary_size)
        positions, bound = _room(text, architecture)
        yield TextWriter(
            SplitGenerator(half, reach),
            load_tokenizer(model.name, revision=checkpoint.revision),
            end_ids=end_ids_of(checkpoint),
            positions=positions,
            bound=bound,
        )


@contextmanager
def _other_half(
    control: RemoteWorker, spec: SessionSpec, settings: ChannelSettings, vocabulary_size: int
) -> Iterator[OtherHalf]:
    """The worker's, in a session that ends with the block."""
    token = control.open(spec)
    security = control.security
    try:
        stream = GrpcStream(control.address, token, spec.wire_type, settings, security=security)
        with closing(stream):
            yield OtherHalf(stream, vocabulary_size)
    finally:
        _close(control, token)


def _close(control: RemoteWorker, token: str) -> None:
    """End a session; one whose worker is not there any more ends by itself."""
    with suppress(WorkerUnavailableError):
        control.close(token)


def _hidden_type(model: Model) -> WireType:
    """What hidden states are sent as where nothing is said: as the base computes them."""
    return WireType(model.computes_in)


def _room(text: SplitText, architecture: Architecture) -> tuple[int, str]:
    """How long prompt and text may be together, and the setting that says so, if it is one."""
    most = architecture.max_positions
    if most and most <= text.context_tokens:
        return most, ""
    return text.context_tokens, "context_tokens"


def _spec(
    model: Model, link: Link, cut: int, kept_tokens: int, updates: Mapping[str, LowRank]
) -> SessionSpec:
    return SessionSpec.to_write(
        client_name="a writer",
        cut=cut,
        wire_type=link.wire_type or _hidden_type(model),
        kept_tokens=kept_tokens,
        # A run may have loaded another one since the worker was asked.
        adapter=fingerprint_of_updates(updates),
        # It comes at once.
        round_timeout_seconds=WAITING_SECONDS,
    )


def _device_half(model: Model, architecture: Architecture, cut: int, device: str) -> Half:
    architecture.check_cut(cut)
    half = load_half(
        model.name,
        Parts.of_client(cut, keeps_labels=False),
        revision=model.revision or None,
        dtype=floating_dtype(model.computes_in),
        device=torch.device(device),
        attention=model.attention or None,
        quantised=model.quantised,
    )
    half.model.eval()
    return half


def _look_whether_it_goes_on_top(personal: str | Path, adapter: str | Path) -> None:
    if unsure := what_is_unsure(Path(personal), Path(adapter) if adapter else None):
        logger.warning("%s", unsure)


def _with_personal(
    updates: dict[str, LowRank], folder: str | Path, architecture: Architecture, cut: int
) -> dict[str, LowRank]:
    """With the device's own on top, if it has one and all of that is in its half."""
    if not folder:
        return updates
    own = PersonalAdapter(folder=Path(folder))
    blocks = {weight.name: weight.block for weight in architecture.weights}
    needed = 1 + max((blocks.get(name, 0) for name in own.read()), default=0)
    if needed > cut:
        raise AdapterError(
            f"the adapter in {folder} is of the first {needed} blocks, and this device has {cut}: "
            f"ask for a cut of {needed} or more"
        )
    return own.added_to(updates)
