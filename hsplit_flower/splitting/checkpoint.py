"""Safetensors checkpoints, local or on the hub, sharded or not, read tensor by tensor.

Only the shard files that hold wanted tensors are downloaded or opened. Pickle files are refused.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from ..errors import UnsupportedModelError
from .model_name import (
    CONFIG_FILE,
    SINGLE_FILE,
    ask_hub,
    check_name,
    first_line,
    is_absent,
    locate,
    no_model,
    why_not,
)
from .quantisation import quantisation_of
from .weight_files import broken_file, missing_file, weight_files

TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")
NARROW = ("BF16", "F16")
PIECE_BYTES = 2**20


@dataclass(frozen=True)
class Unread:
    """A tensor in an open file, read when it is sliced.

    A slice by safetensors' own means would hold the tensor's bytes twice meanwhile. Numbers that
    will be widened are widened piece by piece, so that they are never there whole in both types;
    that loses nothing, whatever type the loader asks for then.
    """

    handle: Any
    name: str
    dtype: torch.dtype

    def get_dtype(self) -> str:
        """The type of its numbers as the file says it, such as ``BF16``."""
        return str(self.handle.get_slice(self.name).get_dtype())

    def __getitem__(self, index: Any) -> Tensor:
        stored = self.handle.get_slice(self.name)
        shape = stored.get_shape()
        if self.dtype is not torch.float32 or stored.get_dtype() not in NARROW or not shape:
            tensor: Tensor = self.handle.get_tensor(self.name)
            return tensor[index]
        widened = torch.empty(shape, dtype=self.dtype)
        num_rows = max(1, PIECE_BYTES * shape[0] // max(1, widened.nbytes))
        for start in range(0, shape[0], num_rows):
            rows = slice(start, min(start + num_rows, shape[0]))
            widened[rows] = stored[rows]
        return widened[index]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model's files: a built-in base, a local folder, or a hub id with a revision."""

    source: str
    revision: str | None = None

    @property
    def location(self) -> str:
        """The folder or hub id that is read."""
        return locate(self.source)

    @property
    def is_local(self) -> bool:
        return Path(self.location).is_dir()

    def config(self) -> PretrainedConfig:
        """The model's configuration; nothing but ``config.json`` is read.

        Raises
        ------
        UnsupportedModelError
            If there is none, its type is unknown to transformers (remote code is never run), or its
            weights are quantised in a way that cannot be split.
        """
        check_name(self.source)
        if not self.is_local:
            ask_hub(self.source, CONFIG_FILE, self.revision)
        try:
            config: PretrainedConfig = AutoConfig.from_pretrained(
                self.location, revision=self.revision, trust_remote_code=False
            )
        except Exception as error:  # each library that has a part in this raises its own
            raise no_model(self.source, first_line(error)) from error
        quantisation_of(config, source=self.source)
        return config

    def files(self) -> dict[str, str | None]:
        """Which file holds each tensor; ``{file: None}`` when one file holds them all."""
        return weight_files(self.source, self._fetch)

    def check_some_weights(self) -> None:
        """See that a folder has a file of weights that can be read; the hub is not asked.

        A device may have the shards of its own half alone.

        Raises
        ------
        UnsupportedModelError
            If there is none, or none of those that are there is whole.
        """
        if not self.is_local:
            return
        shards = self.files()
        names = {name for name in shards.values() if name} or set(shards)
        failure: UnsupportedModelError | None = None
        for name in sorted(names):
            try:
                self._open_file(name)
            except UnsupportedModelError as error:
                failure = failure or error
            else:
                return
        raise failure or missing_file(self.source, SINGLE_FILE)

    def at_hand(self, name: str) -> Path | None:
        """A file of the model that is on this machine already; the hub is not asked."""
        if self.is_local:
            return self._fetch(name)
        try:
            found = try_to_load_from_cache(self.location, name, revision=self.revision)
        except HFValidationError:
            return None
        return Path(found) if isinstance(found, str) else None

    @contextmanager
    def open(
        self, is_wanted: Callable[[str], bool], dtype: torch.dtype
    ) -> Iterator[dict[str, Unread]]:
        """Yield the wanted tensors by name, unread: each is read when the loader slices it.

        ``dtype`` is what the loader will turn most of them into.

        ``pread`` keeps what is read out of the process's mappings: memory grows by the tensors
        that are kept, and by nothing else.
        """
        shards = self.files()
        if list(shards.values()) == [None]:
            names = set(shards)
        else:
            names = {str(file) for tensor, file in shards.items() if is_wanted(tensor)}
        with ExitStack() as stack:
            tensors: dict[str, Unread] = {}
            for name in sorted(names):
                handle = stack.enter_context(self._open_file(name))
                wanted = filter(is_wanted, handle.offset_keys())
                tensors.update({key: Unread(handle, key, dtype) for key in wanted})
            yield tensors

    def _open_file(self, name: str) -> Any:
        path = self._fetch(name)
        if path is None:
            raise missing_file(self.source, name)
        try:
            return safe_open(str(path), framework="pt", device="cpu", backend="pread")
        except SafetensorError as error:
            raise broken_file(self.source, path, str(error)) from error

    def _fetch(self, name: str) -> Path | None:
        if self.is_local:
            path = Path(self.location) / name
            return path if path.is_file() else None
        try:
            return Path(hf_hub_download(self.location, name, revision=self.revision))
        except Exception as error:  # the hub's library lets its own libraries' errors through
            if is_absent(error):
                return None
            raise UnsupportedModelError(
                f"{name} of {self.source!r} cannot be had: {why_not(error, self.source)}"
            ) from error


def load_tokenizer(model: str, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer that comes with a model.

    Raises
    ------
    UnsupportedModelError
        If there is none that works without remote code.
    """
    check_name(model)
    checkpoint = Checkpoint(source=model, revision=revision)
    if not any(checkpoint.at_hand(name) for name in (CONFIG_FILE, *TOKENIZER_FILES)):
        # transformers would ask six times, and not say that it was forbidden to ask.
        ask_hub(model, CONFIG_FILE, revision)
    try:
        return AutoTokenizer.from_pretrained(
            locate(model), revision=revision, trust_remote_code=False
        )
    except (OSError, ValueError, HFValidationError) as error:
        raise UnsupportedModelError(
            f"no usable tokenizer at {model!r}: {first_line(error).rstrip('.')}; beside the "
            f"{CONFIG_FILE}, what tokenizer.save_pretrained(folder) writes is wanted"
        ) from error
