"""Documents packed into rows compute what they compute apart, and are all there once."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedModel

from hsplit_flower.data import EncodedExample, batches
from hsplit_flower.data.chat import PackedRow, pack
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.types import IGNORED_LABEL

LENGTHS = st.lists(st.integers(1, 24), min_size=1, max_size=12)


def documents(lengths: list[int], seed: int = 0) -> list[EncodedExample]:
    """Of random tokens, of which some are learnt."""
    rng = Random(seed)
    made = []
    for length in lengths:
        ids = tuple(rng.randrange(3, 2000) for _ in range(length))
        labels = tuple(token if rng.random() < 0.6 else IGNORED_LABEL for token in ids)
        made.append(EncodedExample(input_ids=ids, labels=labels))
    return made


@given(lengths=LENGTHS)
def test_every_document_is_in_one_row_and_no_row_is_too_long(lengths: list[int]) -> None:
    rows = pack(documents(lengths), 24)
    packed = Counter(one for row in rows for one in row.documents)
    assert packed == Counter(documents(lengths))
    assert all(0 < len(row) <= 24 for row in rows)
    # No two rows would fit into one, so at most one is half empty.
    assert sum(len(row) <= 12 for row in rows) <= 1
    for row in rows:
        assert len(row.input_ids) == len(row.labels) == len(row.position_ids) == len(row)


@pytest.fixture(scope="module")
def model(llama_tiny: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(llama_tiny, dtype=torch.float64)


@settings(max_examples=8, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 100))
def test_losses_and_gradients_are_those_of_the_documents_apart(
    model: PreTrainedModel, lengths: list[int], seed: int
) -> None:
    apart = documents(lengths, seed)
    found = []
    for rows in (apart, pack(apart, 24)):
        model.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for batch in batches(rows, 3, pad_id=0):
            labels = batch.pop("labels")
            logits = model(**batch, use_cache=False).logits
            total = total + cross_entropy(
                logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
            )
        if total.requires_grad:
            total.backward()
        gradient = model.get_input_embeddings().weight.grad
        found.append((total.detach(), torch.zeros(1) if gradient is None else gradient.clone()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


def test_what_pads_a_packed_row_is_a_document_of_its_own() -> None:
    rows = pack(documents([5, 4, 4]), 9)
    (batch,) = batches(rows, 2, pad_id=7)
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    assert batch["position_ids"].tolist() == [
        [0, 1, 2, 3, 4, 0, 1, 2, 3],
        [0, 1, 2, 3, 0, 1, 2, 3, 4],
    ]
    assert batch["input_ids"][1, 4:].tolist() == [7] * 5
    assert batch["labels"][1, 4:].tolist() == [IGNORED_LABEL] * 5


def test_packed_rows_are_drawn_as_others_are() -> None:
    rows = pack(documents(list(range(1, 13))), 12)
    drawn = list(batches(rows, 2, steps=4, seed=(1, 2), pad_id=0))
    assert len(drawn) == 4 and all(len(batch["input_ids"]) == 2 for batch in drawn)


def test_first_tokens_are_not_learnt_and_long_documents_refused() -> None:
    one = EncodedExample(input_ids=(5, 6, 7), labels=(5, 6, 7))
    row = PackedRow(documents=(one, one))
    assert row.labels == (IGNORED_LABEL, 6, 7, IGNORED_LABEL, 6, 7)
    with pytest.raises(DataError, match="an example of 3 tokens does not fit into a row of 2"):
        pack([one], 2)
    with pytest.raises(ConfigError, match="row_length must be 1 or more"):
        pack([one], 0)
