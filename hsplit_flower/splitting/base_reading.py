"""The digest of a base: from a few numbers of each tensor that is at hand, nothing is loaded.

Nothing is fetched for it, either: what is not on this machine is not known, and is found out when
it has been loaded.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import xxhash
from torch import Tensor

from ..errors import UnsupportedModelError
from .base_digest import UNREAD, BaseDigest, TensorDigest
from .checkpoint import Checkpoint
from .half import Half
from .model_name import CONFIG_FILE
from .quantisation import kind_of, quantisation_of
from .quantised_linear import QuantisedLinear
from .stored_tensors import stored_tensors
from .tensor_names import TensorNames
from .weight_files import weight_files

NUM_PIECES, PIECE_NUMBERS = 4, 512
"""Of each tensor: so many places from its first number to its last, and so many numbers there."""

_MOST_KEPT = 8
_Stamp = tuple[tuple[str, int, int], ...]
_KEPT: dict[tuple[Checkpoint, torch.dtype], tuple[_Stamp, BaseDigest]] = {}


def digest_of(
    checkpoint: Checkpoint, dtype: torch.dtype, *, is_quantised: bool = False
) -> BaseDigest:
    """The digest of a checkpoint's tensors, as far as its files are on this machine.

    Of each tensor `NUM_PIECES` pieces of `PIECE_NUMBERS` are read, or all of a small one. The last
    ones are kept, and made anew where a file has changed.

    Parameters
    ----------
    checkpoint
        Whose configuration can be read.
    dtype
        What its numbers are computed in: they are compared as they are then.
    is_quantised
        Whether they are quantised while they are loaded: then they are compared as they are stored.
    """
    if is_quantised:
        dtype = torch.float32
    shards = _files_at_hand(checkpoint)
    names = {name for name in shards.values() if name} or set(shards)
    paths = {name: path for name in sorted(names) if (path := checkpoint.at_hand(name))}
    stamp = _stamp(checkpoint, paths)
    kept = _KEPT.get((checkpoint, dtype))
    if kept is None or kept[0] != stamp:
        kept = stamp, _read(checkpoint, shards, paths, dtype)
        _KEPT[checkpoint, dtype] = kept
        while len(_KEPT) > _MOST_KEPT:
            del _KEPT[next(iter(_KEPT))]
    return kept[1]


def digest_of_half(half: Half) -> BaseDigest:
    """The digest of what a half was loaded from; of its own tensors where it came from memory."""
    if half.checkpoint is not None:
        return digest_of(half.checkpoint, half.dtype, is_quantised=bool(half.quantised))
    dtype = torch.float32 if half.quantised else half.dtype
    return BaseDigest(
        tensors={
            name: TensorDigest(
                shape=tuple(tensor.shape),
                digest=_digest(tensor.numel(), _reader(tensor), dtype),
            )
            for name, tensor in _plain_tensors(half)
        },
        lists_all=False,
    )


def _files_at_hand(checkpoint: Checkpoint) -> dict[str, str | None]:
    try:
        return weight_files(checkpoint.source, checkpoint.at_hand)
    except UnsupportedModelError:
        # Whoever loads the model says what is wrong with it.
        return {}


def _stamp(checkpoint: Checkpoint, paths: Mapping[str, Path]) -> _Stamp:
    config = checkpoint.at_hand(CONFIG_FILE)
    stats = [(str(path), path.stat()) for path in (*paths.values(), *([config] if config else []))]
    return tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def _read(
    checkpoint: Checkpoint,
    shards: Mapping[str, str | None],
    paths: Mapping[str, Path],
    dtype: torch.dtype,
) -> BaseDigest:
    config = checkpoint.config()
    stored = kind_of(quantisation_of(config, source=checkpoint.source))
    names = TensorNames(config, is_quantised=bool(stored))
    if stored:
        # What is beside quantised matrices is stored with all its digits.
        dtype = torch.float32
    tensors = {key: UNREAD for key, file in shards.items() if file}
    for path in paths.values():
        tensors |= _digests(path, names, dtype)
    named = {name: one for key, one in tensors.items() if (name := names.of(key))}
    return BaseDigest(tensors=_untied(named, names.tied), quantised=stored)


def _digests(path: Path, names: TensorNames, dtype: torch.dtype) -> dict[str, TensorDigest]:
    """By the names that the file has; none of a file that is not one."""
    try:
        with stored_tensors(path) as found:
            return {
                key: TensorDigest(
                    shape=one.shape, dtype=one.dtype, digest=_digest(one.count, one.read, dtype)
                )
                for key, one in found.items()
                if names.of(key)
            }
    except (OSError, ValueError):
        return {}


def _untied(
    tensors: Mapping[str, TensorDigest], tied: Mapping[str, str]
) -> dict[str, TensorDigest]:
    """Without what is stored twice: a head that is the embedding may be in the files or not."""
    kept = dict(tensors)
    for name, source in tied.items():
        if name not in kept:
            continue
        one, other = kept[name], kept.get(source, UNREAD)
        if not other.digest:
            kept[source] = one
        if not other.digest or one.digest in ("", other.digest):
            del kept[name]
    return kept


def _plain_tensors(half: Half) -> Iterator[tuple[str, Tensor]]:
    """What a half holds, but for quantised matrices: in memory these are laid out otherwise."""
    tied = getattr(half.model, "all_tied_weights_keys", None) or {}
    quantised = tuple(
        f"{path}."
        for path, module in half.model.named_modules()
        if isinstance(module, QuantisedLinear)
    )
    for name, tensor in half.model.state_dict().items():
        if name not in tied and not name.startswith(quantised):
            yield name, tensor


def _reader(tensor: Tensor) -> Callable[[int, int], Tensor]:
    numbers = tensor.detach().reshape(-1)
    return lambda start, stop: numbers[start:stop].cpu()


def _digest(count: int, read: Callable[[int, int], Tensor], dtype: torch.dtype) -> str:
    """XXH32 of the sampled numbers, as they are in this type; others than floats as they are."""
    digest = xxhash.xxh32(str(count).encode())
    for start, stop in sampled(count):
        piece = read(start, stop)
        if piece.is_floating_point():
            piece = piece.to(dtype)
        digest.update(piece.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def sampled(count: int) -> list[tuple[int, int]]:
    """Which numbers of so many are looked at: all of a few, else pieces from first to last."""
    if count <= NUM_PIECES * PIECE_NUMBERS:
        return [(0, count)] if count else []
    last = count - PIECE_NUMBERS
    starts = [last * piece // (NUM_PIECES - 1) for piece in range(NUM_PIECES)]
    return [(start, start + PIECE_NUMBERS) for start in starts]
