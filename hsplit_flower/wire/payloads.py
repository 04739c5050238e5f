"""Tensors of messages, put there, and taken out again if they are what their place asks for."""

import torch
from torch import Tensor

from ..errors import CodecError
from .codec import CheckShape, decode, encode_into
from .proto.split_pb2 import Forward as ForwardMessage
from .proto.split_pb2 import Payload


def put_mask(forward: ForwardMessage, mask: Tensor, *, leaves_out: bool) -> None:
    """Lengths for rows padded on the right, else the mask itself; of a full batch nothing.

    Unless it ``leaves_out`` nothing, because no mask would mean another one.
    """
    lengths = mask.sum(dim=1)
    seq = mask.shape[1]
    if leaves_out and bool((lengths == seq).all()):
        return
    positions = torch.arange(seq, device=mask.device)
    if bool((mask.bool() == (positions < lengths[:, None])).all()):
        encode_into(forward.lengths, lengths.to(torch.int32))
    else:
        encode_into(forward.mask, mask.to(torch.uint8))


def take_mask(forward: ForwardMessage, batch: int, seq: int) -> Tensor | None:
    """The mask that a message has in one form or the other; None for a full one."""
    if forward.HasField("lengths"):
        lengths = integers(forward.lengths, (batch,), "lengths")
        if bool(((lengths < 1) | (lengths > seq)).any()):
            shortest, longest = int(lengths.min()), int(lengths.max())
            raise CodecError(f"lengths must be in [1, {seq}], got {shortest} to {longest}")
        return (torch.arange(seq) < lengths[:, None]).long()
    if forward.HasField("mask"):
        return plain_mask(forward.mask, (batch, seq))
    return None


def plain_mask(payload: Payload, wanted: tuple[int, ...]) -> Tensor:
    """A mask of this shape.

    Raises
    ------
    CodecError
        If it is of another, or holds anything but zeros and ones.
    """
    mask = integers(payload, wanted, "mask")
    if bool(((mask < 0) | (mask > 1)).any()):
        raise CodecError("a mask holds zeros and ones only")
    return mask.long()


def hidden_like(payload: Payload, what: str, check_shape: CheckShape | None) -> Tensor:
    """A tensor ``[batch, seq, hidden]`` of floating-point numbers, none of whose sizes is 0."""

    def check(shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or 0 in shape:
            raise CodecError(
                f"a {what} of shape {list(shape)}: [batch, seq, hidden] is wanted, none of them 0"
            )
        if check_shape is not None:
            check_shape(shape)

    tensor = decode(payload, check)
    if not tensor.is_floating_point():
        raise CodecError(f"a {what} of {tensor.dtype}: floating-point numbers are wanted")
    return tensor


def integers(payload: Payload, wanted: tuple[int, ...], what: str) -> Tensor:
    """Whole numbers of this shape."""

    def check_shape(shape: tuple[int, ...]) -> None:
        if shape != wanted:
            raise CodecError(
                f"{what} of shape {list(shape)}: integers of shape {list(wanted)} are wanted"
            )

    tensor = decode(payload, check_shape)
    if tensor.is_floating_point():
        raise CodecError(f"{what} of {tensor.dtype}: integers are wanted")
    return tensor
