"""What leaves a client: as short as was asked for, with as much noise, of which nobody can tell."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound
from hsplit_flower.client.protection import Protection, clip_tokens
from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import Link, SessionSpec
from hsplit_flower.transport.streams import InProcessStream
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.messages import Backward, Forward, Reply, Request
from tests.families import fields
from tests.rounds import ranks
from tests.workers import load_client, running_worker


def spec(**values: float | int) -> SessionSpec:
    return SessionSpec(client=3, cut=1, **values)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.floats(0.01, 50.0), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_no_token_is_longer_and_a_shorter_one_is_as_it_was(
    norm: float, size: float, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    vectors = size * torch.randn(2, 5, 8, generator=draws)
    vectors[0, 0] = 0.0
    clipped = clip_tokens(vectors, norm)
    lengths = vectors.norm(dim=-1)
    assert bool((clipped.norm(dim=-1) <= norm * (1 + 1e-5)).all())
    torch.testing.assert_close(clipped[lengths <= norm], vectors[lengths <= norm])
    longer = lengths > norm
    torch.testing.assert_close(
        clipped[longer], vectors[longer] / lengths[longer][:, None] * norm, rtol=1e-5, atol=1e-8
    )
    assert clip_tokens(vectors, 0.0) is vectors


@pytest.mark.parametrize("kind", ["hidden", "gradient"])
def test_noise_has_its_deviation_and_is_another_each_time(kind: str) -> None:
    how = {f"{kind}_clip_norm": 2.0, f"{kind}_noise": 1.5}
    protection = Protection(spec(**how))
    apply = protection.of_hidden if kind == "hidden" else protection.of_gradient
    nothing = torch.zeros(4, 50, 64)
    first, again = apply(nothing, 1, 0), apply(nothing, 1, 0)
    assert not torch.equal(first, again), "not even the same step has the same noise"
    assert float(first.std()) == pytest.approx(3.0, rel=0.02)
    assert float(first.mean()) == pytest.approx(0.0, abs=0.1)
    other = protection.of_gradient if kind == "hidden" else protection.of_hidden
    assert torch.equal(other(nothing, 1, 0), nothing)


def test_a_seed_repeats_it_for_a_round_a_client_a_step_and_a_part() -> None:
    how = {"hidden_clip_norm": 1.0, "hidden_noise": 1.0, "noise_seed": 5}
    nothing = torch.zeros(1, 3, 8)
    first = Protection(spec(**how)).of_hidden(nothing, 1, 0)
    assert torch.equal(first, Protection(spec(**how)).of_hidden(nothing, 1, 0))
    others = [
        Protection(spec(**how)).of_hidden(nothing, 2, 0),
        Protection(spec(**how)).of_hidden(nothing, 1, 1),
        Protection(spec(**how, seed=1)).of_hidden(nothing, 1, 0),
        Protection(spec(**{**how, "noise_seed": 6})).of_hidden(nothing, 1, 0),
        Protection(SessionSpec(client=4, cut=1, **how)).of_hidden(nothing, 1, 0),  # type: ignore[arg-type]
    ]
    assert not any(torch.equal(first, other) for other in others)


def test_gradients_go_back_through_the_clipping() -> None:
    vectors = torch.randn(1, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: clip_tokens(each, 1.0), (vectors,))


def test_noise_without_a_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match="hidden_noise is 1 with hidden_clip_norm = 0"):
        Link(hidden_noise=1.0)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_round_sends_nothing_that_is_not_protected(noise: float) -> None:
    """With a real worker: every hidden state and every gradient that is on its way there."""
    protected = SessionSpec(
        client=0,
        cut=1,
        ranks=ranks("llama"),
        labels=Labels.CLIENT,
        hidden_clip_norm=0.5,
        hidden_noise=noise,
        gradient_clip_norm=1e-3,
        gradient_noise=noise,
        noise_seed=1,
    )
    plain = SessionSpec(client=0, cut=1, ranks=ranks("llama"), labels=Labels.CLIENT)
    sent: dict[bool, list[Request]] = {True: [], False: []}
    with running_worker("llama") as running:
        worker = running.worker
        for is_protected, how in ((True, protected), (False, plain)):
            token = worker.open(how)

            def answer(request: Request, token: str = token, to: bool = is_protected) -> Reply:
                sent[to].append(request)
                return worker.exchange(token, request)

            half = load_client("llama", 1, keeps_labels=True)
            stream = InProcessStream(answer, WireType.FLOAT32)
            local_round = LocalRound(half, {}, how, stream)
            outcome = local_round.train([Batch(**fields("unpadded"))], probe=False)
            local_round.release_half()
            assert outcome.num_steps == 1
            worker.close(token)
    (forward, backward), (plain_forward, plain_backward) = sent[True], sent[False]
    assert isinstance(forward, Forward) and isinstance(plain_forward, Forward)
    assert isinstance(backward, Backward) and isinstance(plain_backward, Backward)
    wanted = clip_tokens(plain_forward.hidden, 0.5)
    if not noise:
        torch.testing.assert_close(forward.hidden, wanted)
        assert float(backward.gradient.norm(dim=-1).max()) <= 1e-3 * (1 + 1e-5)
        assert float(plain_backward.gradient.norm(dim=-1).max()) > 1e-3
    else:
        added = forward.hidden - wanted
        assert float(added.std()) == pytest.approx(0.25, rel=0.2)
        torch.testing.assert_close(
            forward.hidden, Protection(protected).of_hidden(plain_forward.hidden, 1, 0)
        )
        assert float(backward.gradient.std()) > 3e-4
