"""A site's own log: what was asked of it, what it did, and what left it."""

import pytest
import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.client.round_loop import Outcome
from hsplit_flower.client.site_log import asked, did, left_site
from hsplit_flower.metrics import TokenLoss
from hsplit_flower.settings import Link, Model, SessionSpec, Trust
from hsplit_flower.transport.traffic import Traffic
from hsplit_flower.types import Labels
from hsplit_flower.wire.instructions import Instructions, WholeTraining

SPEC = SessionSpec(client=1, cut=4, ranks={"a": 7, "b": 16, "c": 0})
TOLD = Instructions(
    server_round=3,
    num_examples=40,
    model=Model(name="llama-tiny"),
    link=Link(),
    session=SPEC,
    address="server:8600",
    token="a secret",
    trust=Trust(is_secured=True),
    budget_bytes=45.5e6,
)
WHOLE = TOLD.replace(whole=WholeTraining(is_whole=True, trains_weights=True))
OUTCOME = Outcome(
    loss=TokenLoss(loss_sum=6000.0, num_tokens=4000),
    num_steps=10,
    num_examples=40,
    num_batch_tokens=640,
    seconds=4.8123,
    peak_bytes=29.83e6,
    traffic=Traffic(up_bytes=2_400_000),
    updates={"a": LowRank(b=torch.zeros(2, 1), a=torch.zeros(1, 2))},
    importance={"a": 1.0, "b": 2.0},
)


def test_what_was_asked() -> None:
    assert asked(TOLD) == (
        "round 3: asked to train the first 4 blocks of llama-tiny, adapters of rank 7 to 16, "
        "within 45.5 MB, the rest at server:8600 over TLS"
    )
    evaluating = TOLD.replace(session=SPEC.replace(train=False), trust=Trust(), budget_bytes=0.0)
    assert asked(evaluating) == (
        "round 3: asked to evaluate the first 4 blocks of llama-tiny, the rest at server:8600"
    )
    assert asked(WHOLE) == (
        "round 3: asked to train all blocks of llama-tiny, all parameters, within 45.5 MB"
    )


def test_what_was_done() -> None:
    assert did(TOLD, OUTCOME) == (
        "round 3: 10 steps on 40 examples in 4.81 s, 4,000 tokens learnt, loss 1.500, 29.83 MB of "
        "memory"
    )
    evaluating = TOLD.replace(session=SPEC.replace(train=False))
    assert "4,000 tokens measured, loss" in did(evaluating, OUTCOME)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Labels.SERVER, "hidden states, lengths or positions and LABELS of 640 tokens"),
        (
            Labels.CLIENT,
            "hidden states, lengths or positions and gradients, no labels, of 640 tokens",
        ),
    ],
)
def test_what_left_the_site_is_said_with_its_bytes_and_whether_labels_did(
    labels: Labels, words: str
) -> None:
    told = TOLD.replace(session=SPEC.replace(labels=labels))
    assert left_site(told, OUTCOME, array_bytes=310_000) == (
        "round 3: left this site: to the server adapters of 1 weight (310 kB), 2 scores of "
        "importance, loss, counts and seconds, what this device has; to the split worker 2.4 MB: "
        + words
    )


def test_that_norms_leave_the_site_is_said_where_gradients_are_clipped() -> None:
    clipped = TOLD.replace(session=SPEC.replace(max_gradient_norm=1.0))
    said = left_site(clipped, OUTCOME, array_bytes=0)
    assert said.endswith(
        "hidden states, lengths or positions, norms of gradients and LABELS of 640 tokens"
    )
    evaluating = TOLD.replace(session=SPEC.replace(max_gradient_norm=1.0, train=False))
    assert "norms" not in left_site(evaluating, OUTCOME, array_bytes=0)


def test_without_a_worker_nothing_goes_to_one() -> None:
    assert "split worker" not in left_site(WHOLE, OUTCOME, array_bytes=1)
    evaluating = TOLD.replace(session=SPEC.replace(train=False))
    assert "adapters" not in left_site(evaluating, OUTCOME, array_bytes=0)


def test_no_secret_is_said() -> None:
    said = asked(TOLD) + did(TOLD, OUTCOME) + left_site(TOLD, OUTCOME, array_bytes=1)
    assert "a secret" not in said


def test_of_an_adapter_that_stays_here_it_says_so() -> None:
    own = TOLD.replace(personal_steps=5)
    assert "to train the first 4 blocks of llama-tiny, with an adapter that stays here" in asked(
        own
    )
    told = left_site(own, OUTCOME, array_bytes=0)
    assert "to the server loss, counts and seconds; to the split worker" in told
