import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from hsplit_flower.errors import DataError
from hsplit_flower.metrics import TokenLoss, count_label_tokens, summed_token_loss, token_loss

IGNORED = -100


def reference_sum(logits: Tensor, labels: Tensor) -> float:
    """The formula word by word, in float64."""
    total = 0.0
    for row, wanted in zip(logits.double(), labels.tolist(), strict=True):
        for position in range(1, len(wanted)):
            if wanted[position] != IGNORED:
                total -= row[position - 1].log_softmax(-1)[wanted[position]].item()
    return total


def random_batch(batch: int = 3, seq: int = 9, vocab: int = 17) -> tuple[Tensor, Tensor]:
    labels = torch.randint(vocab, (batch, seq))
    labels[torch.rand(batch, seq) < 0.4] = IGNORED
    return torch.randn(batch, seq, vocab), labels


def test_sum_is_the_formulas() -> None:
    logits, labels = random_batch()
    loss = token_loss(logits, labels)
    assert loss.loss_sum == pytest.approx(reference_sum(logits, labels), rel=1e-6)
    assert loss.num_tokens == sum(x != IGNORED for row in labels.tolist() for x in row[1:])


def test_mean_is_the_loss_of_a_hugging_face_model() -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=17, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2,
        )
    )  # fmt: skip
    input_ids, (_, labels) = torch.randint(17, (3, 9)), random_batch()
    with torch.no_grad():
        output = model(input_ids=input_ids, labels=labels)
    assert token_loss(output.logits, labels).mean == pytest.approx(output.loss.item(), rel=1e-6)


def test_first_label_and_ignored_labels_count_for_nothing() -> None:
    logits, labels = random_batch(batch=1, seq=4)
    only_first = torch.tensor([[3, IGNORED, IGNORED, IGNORED]])
    assert token_loss(logits, only_first) == TokenLoss()
    one = torch.tensor([[IGNORED, IGNORED, 5, IGNORED]])
    assert token_loss(logits, one).num_tokens == 1
    assert token_loss(logits[:, :1], labels[:, :1]) == TokenLoss()


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits, labels = random_batch(batch=8, seq=64)
    half = logits.bfloat16()
    loss = summed_token_loss(half, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference_sum(half, labels), rel=1e-5)


def test_gradient_is_softmax_less_one_hot() -> None:
    logits, labels = random_batch(batch=1, seq=2)
    labels[0, 1] = 4
    logits.requires_grad_()
    summed_token_loss(logits, labels).backward()
    wanted = logits.detach()[0, 0].softmax(-1)
    wanted[4] -= 1
    assert torch.allclose(logits.grad[0, 0], wanted, atol=1e-6)
    assert not logits.grad[0, 1].any()


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 10**6)), min_size=1))
def test_sums_and_counts_add_up_and_the_ratio_is_taken_once(parts: list[tuple[float, int]]) -> None:
    losses = [TokenLoss(loss_sum=loss_sum, num_tokens=count) for loss_sum, count in parts]
    total = sum(losses, TokenLoss())
    assert total.num_tokens == sum(count for _, count in parts)
    assert total.mean == pytest.approx(
        math.fsum(loss_sum for loss_sum, _ in parts) / total.num_tokens
    )
    assert total == TokenLoss() + total


def test_batches_add_up_to_the_whole() -> None:
    logits, labels = random_batch(batch=6)
    parts = [token_loss(logits[i : i + 2], labels[i : i + 2]) for i in (0, 2, 4)]
    whole, total = token_loss(logits, labels), sum(parts, TokenLoss())
    assert total.num_tokens == whole.num_tokens
    assert total.loss_sum == pytest.approx(whole.loss_sum, rel=1e-6)


def test_perplexity_of_equal_logits_is_the_vocabulary() -> None:
    labels = torch.randint(17, (2, 5))
    assert token_loss(torch.zeros(2, 5, 17), labels).perplexity == pytest.approx(17)


def test_perplexity_beyond_floats_is_infinite_and_not_a_number_stays_so() -> None:
    assert TokenLoss(loss_sum=1e4, num_tokens=1).perplexity == math.inf
    assert math.isnan(TokenLoss(loss_sum=math.nan, num_tokens=1).perplexity)


def test_no_tokens_have_no_mean() -> None:
    for read in (lambda loss: loss.mean, lambda loss: loss.perplexity):
        with pytest.raises(DataError, match="no token has a label"):
            read(TokenLoss())


def test_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="num_tokens must be zero or more, got -1"):
        TokenLoss(num_tokens=-1)


def test_count_is_of_predicted_labels() -> None:
    assert count_label_tokens(torch.tensor([[1, 2, IGNORED], [IGNORED, IGNORED, 4]])) == 2
