"""A step of a client that keeps its labels: forth, out to the client, and back from its gradient.

Split learning calls this U-shaped. The graph of the first half waits on the worker until the
gradient of the last hidden state comes, so that such a step is run for its session alone.
"""

import torch
from torch import Tensor

from ..adapters import AdapterBank
from ..splitting import Half
from ..wire.messages import Backward, Forward, Gradient, LastHidden, Reply
from .finiteness import check_gradients
from .probing import probing_above_cut
from .progress import WaitingGraph
from .session import Session


class UShapedPass:
    """Runs either half of such steps on the shared base.

    Parameters
    ----------
    half
        The blocks above the lowest cut.
    bank
        Where a session's adapters are made active.
    """

    def __init__(self, half: Half, bank: AdapterBank) -> None:
        self._half = half
        self._bank = bank

    def run(self, session: Session, request: Forward | Backward) -> Reply:
        """A request of a client that keeps its labels: its graph waits for its own gradient."""
        try:
            if isinstance(request, Backward):
                reply: Reply = self._backward(session, request)
            else:
                reply = self._forward(session, request)
        except BaseException:
            session.forget_step()
            raise
        session.remember(request, reply)
        return reply

    def _forward(self, session: Session, request: Forward) -> LastHidden:
        """Forward through the blocks above the cut."""
        device = self._half.device
        mask, positions = _on(device, request.attention_mask), _on(device, request.position_ids)
        is_probe = request.probe and request.train
        self._half.model.train(request.train)
        with (
            torch.set_grad_enabled(request.train),
            self._bank.activate(session.active_in(request)),
            probing_above_cut(self._half, session, is_probe=is_probe) as scores,
        ):
            # Cut loose: a request that is handled twice must not add its gradients up.
            hidden = request.hidden.detach().to(device, self._half.dtype)
            hidden.requires_grad_(request.train)
            last = self._half.hidden(hidden, mask, positions, start=session.spec.cut)
        progress = session.start(request)
        if request.train:
            flight = WaitingGraph(hidden=hidden, last=last, is_probe=is_probe, scores=scores)
            progress.waiting[request.micro_batch] = flight
        else:
            session.finish_micro_batch()
        return LastHidden(step=request.step, hidden=last.detach(), micro_batch=request.micro_batch)

    def _backward(self, session: Session, request: Backward) -> Gradient:
        """Back through the blocks above the cut, from the gradient that the client computed."""
        assert session.progress is not None
        flight = session.progress.waiting.pop(request.micro_batch)
        gradient = request.gradient.to(flight.last.device, flight.last.dtype)
        # Checkpointed blocks run once more, as they were: with this session's terms, and scored.
        self._half.model.train()
        with (
            self._bank.activate(session.active_in(request)),
            probing_above_cut(self._half, session, is_probe=flight.is_probe),
        ):
            torch.autograd.backward(flight.last, gradient)
        check_gradients(session, flight.hidden.grad, flight.scores)
        squared_norm = session.finish_micro_batch()
        session.importance.update(flight.scores)
        assert flight.hidden.grad is not None
        return Gradient(
            step=request.step,
            gradient=flight.hidden.grad,
            squared_norm=squared_norm,
            micro_batch=request.micro_batch,
        )


def _on(device: torch.device, tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
