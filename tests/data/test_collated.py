"""What other libraries' scripts have, as batches: data sets, collators, formatting functions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hsplit_flower.batches import checked
from hsplit_flower.data import collated, formatted
from hsplit_flower.data.chat import (
    RowFormat,
    conversations_of,
    encode_conversations,
    load_conversations,
)
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.splitting import Architecture, Checkpoint, read_architecture

TEXTS = ["Where is the mill?", "At the river.", "It opens at nine on Monday.", "Who asks?", "I do."]


@pytest.fixture(scope="module")
def model(llama_tiny: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(llama_tiny, dtype=torch.float64)


@pytest.fixture(scope="module")
def architecture() -> Architecture:
    return read_architecture(Checkpoint(source="llama-tiny").config())


@pytest.fixture
def tokenised(tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """As a script has it: the texts are there still."""
    rows = Dataset.from_dict({"text": TEXTS})
    return rows.map(lambda row: tokenizer(row["text"]))


def with_answers(rows: Dataset) -> Dataset:
    """Rows whose first tokens are not learnt."""
    return rows.map(lambda row: {"labels": [-100, -100, *row["input_ids"][2:]]})


def loss_sum(model: PreTrainedModel, batch: Mapping[str, Any]) -> torch.Tensor:
    labels = torch.as_tensor(batch["labels"])
    fields = {name: batch[name] for name in batch if name != "labels"}
    logits = model(**fields, use_cache=False).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")


def collators(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "language modelling": DataCollatorForLanguageModeling(tokenizer, mlm=False),
        "to eight": DataCollatorForLanguageModeling(tokenizer, mlm=False, pad_to_multiple_of=8),
        "answers": DataCollatorForSeq2Seq(tokenizer),
        "flattening": DataCollatorWithFlattening(),
    }


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "as_tensors"),
    [
        ("language modelling", False),
        ("language modelling", True),
        ("to eight", True),
        ("answers", False),
        ("flattening", False),
    ],
)
def test_batches_of_transformers_collators_have_the_losses_of_their_rows(
    name: str,
    as_tensors: bool,
    model: PreTrainedModel,
    tokenised: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    architecture: Architecture,
) -> None:
    rows = with_answers(tokenised) if name in ("answers", "flattening") else tokenised
    apart = [
        {"input_ids": [row["input_ids"]], "labels": [row.get("labels", row["input_ids"])]}
        for row in rows
    ]
    wanted = sum(
        loss_sum(model, {key: torch.tensor(value) for key, value in row.items()}) for row in apart
    )
    if as_tensors:
        rows = rows.with_format("torch", columns=[c for c in rows.column_names if c != "text"])
    given = collated(rows, collators(tokenizer)[name], 2)
    batches = list(checked(given, architecture, is_training=True))
    assert len(batches) == 3
    got = sum(
        loss_sum(model, {key: value for key, value in vars(batch).items() if value is not None})
        for batch in batches
    )
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_a_data_loader_is_taken_as_it_is(
    tokenised: Dataset, tokenizer: PreTrainedTokenizerBase, architecture: Architecture
) -> None:
    rows = tokenised.remove_columns("text")
    loader = DataLoader(
        rows, batch_size=2, shuffle=True, collate_fn=collators(tokenizer)["language modelling"]
    )
    batches = list(checked(loader, architecture, is_training=True))
    assert sum(batch.num_examples for batch in batches) == len(TEXTS)
    assert all(batch.labels.shape == batch.input_ids.shape for batch in batches)


def test_rounds_draw_other_rows_and_as_many_batches_as_there_are_steps(
    tokenised: Dataset, tokenizer: PreTrainedTokenizerBase
) -> None:
    collator = collators(tokenizer)["language modelling"]
    first, again, second = (
        [batch["input_ids"].tolist() for batch in collated(tokenised, collator, 3, steps=4, seed=s)]
        for s in ((0, 1), (0, 1), (0, 2))
    )
    assert first == again != second
    assert len(first) == 4 and all(len(rows) == 3 for rows in first)


def one(row: Mapping[str, Any]) -> str:
    return f"### Q: {row['asked']}\n### A: {row['answer']}"


def several(rows: Mapping[str, Any]) -> list[str]:
    return [one({key: rows[key][at] for key in rows}) for at in range(len(rows["asked"]))]


@pytest.mark.parametrize("function", [one, several])
def test_formatting_functions_of_a_row_and_of_columns_give_the_same(
    function: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    asked = ["Where?", "A", "When?"]
    rows = Dataset.from_dict({"asked": asked, "answer": ["Here.", "", "At ten, then."]})
    made = formatted(rows, function, tokenizer, max_length=64)
    texts = [tokenizer.decode(row["input_ids"]) for row in made]
    assert texts == [f"{one(row)}</s>" for row in rows]
    assert all(set(row["attention_mask"]) == {1} for row in made)
    short = formatted(rows, lambda row: one(row) + "</s>", tokenizer, max_length=9)
    assert [row["input_ids"] for row in short] == [row["input_ids"][:9] for row in made]


def test_what_cannot_be_formatted_or_collated_is_refused(
    tokenised: Dataset, tokenizer: PreTrainedTokenizerBase, architecture: Architecture
) -> None:
    with pytest.raises(DataError, match="row 0: the formatting function does not give its text"):
        formatted(tokenised, lambda row: ["a", "b"], tokenizer, max_length=9)
    with pytest.raises(DataError, match="there are no rows to format"):
        formatted([], one, tokenizer, max_length=9)
    with pytest.raises(ConfigError, match="max_length must be 1 or more"):
        formatted(tokenised, one, tokenizer, max_length=0)
    with pytest.raises(DataError, match=r"row 0 has no input_ids among its 1 column; tokenise"):
        list(collated([{"text": "x"}], list, 1))
    with pytest.raises(DataError, match="no examples to make batches of"):
        collated([], list, 1)
    rows_for_batches = list(tokenised.map(lambda row: {"labels": row["input_ids"]}))
    with pytest.raises(DataError, match=r"hsplit_flower\.data\.collated makes batches"):
        list(checked(rows_for_batches, architecture, is_training=True))


def test_a_data_sets_conversations_are_read_as_a_files_are(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rows = [
        {
            "id": at,
            "messages": [{"role": turn.role, "content": turn.content} for turn in one.messages],
        }
        for at, one in enumerate(load_conversations("help-desk")[:5])
    ]
    read = conversations_of(Dataset.from_list(rows), RowFormat(group_by="id"), name="talks")
    assert [one.messages for one in read] == [
        one.messages for one in load_conversations("help-desk")[:5]
    ]
    assert [one.group for one in read] == ["0", "1", "2", "3", "4"]
    assert len(encode_conversations(read, tokenizer, max_length=256).examples) == 5
    with pytest.raises(DataError, match=r"talks, row 1: messages is a str"):
        conversations_of([{"messages": "private"}], name="talks")
