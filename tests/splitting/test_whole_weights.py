"""A model's parameters, taken out and put into another."""

import pytest
import torch
from torch import nn

from hsplit_flower.errors import AdapterError
from hsplit_flower.splitting.whole_weights import load_weights_, weights_of


class Tied(nn.Module):
    """A head that is the embedding, as small models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


def test_what_is_taken_out_and_put_into_another_makes_it_the_same() -> None:
    torch.manual_seed(0)
    first, other = Tied(), Tied()
    weights = weights_of(first)
    assert sorted(weights) == ["embedding.weight", "norm.bias", "norm.weight"], "tied ones once"
    load_weights_(other, weights)
    for wanted, got in zip(first.parameters(), other.parameters(), strict=True):
        assert torch.equal(got, wanted)
    assert other.head.weight is other.embedding.weight


def test_what_is_taken_out_is_a_copy_in_float32() -> None:
    model = Tied().to(torch.bfloat16)
    weights = weights_of(model)
    nn.init.ones_(model.embedding.weight)
    assert not torch.equal(weights["embedding.weight"], torch.ones(5, 3))
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"nose.weight": torch.zeros(1)}, "no parameter 'nose.weight'"),
        ({"norm.bias": torch.zeros(4)}, r"'norm.bias' has shape \[4\].*has \[3\]"),
    ],
)
def test_what_is_of_another_base_is_refused(weights: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        load_weights_(Tied(), weights)
