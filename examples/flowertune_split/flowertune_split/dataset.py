"""The client's data, template and collator, the same before and after the change."""

from typing import Any

from datasets import Dataset
from flwr_datasets import FederatedDataset
from flwr_datasets.partitioner import IidPartitioner
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, PreTrainedTokenizerBase

ANSWER_MARK = "\n### Response:"
TASK = "Below is a task. Answer it."
FEDERATED: dict[tuple[str, int], FederatedDataset] = {}


def load_data(part: int, num_parts: int, name: str) -> Dataset:
    """A client's rows: an instruction, and the response to be learnt."""
    key = (name, num_parts)
    if key not in FEDERATED:
        partitioner = IidPartitioner(num_partitions=num_parts)
        FEDERATED[key] = FederatedDataset(dataset=name, partitioners={"train": partitioner})
    rows = FEDERATED[key].load_partition(part, "train")
    return rows.select_columns(["instruction", "output"]).rename_column("output", "response")


def formatting_func(rows: dict[str, list[str]]) -> list[str]:
    """The text of each row."""
    pairs = zip(rows["instruction"], rows["response"], strict=True)
    return [
        f"{TASK}\n### Instruction:\n{instruction}{ANSWER_MARK} {response}"
        for instruction, response in pairs
    ]


def get_tokenizer(model_name: str) -> PreTrainedTokenizerBase:
    """The base's own."""
    tokenizer = AutoTokenizer.from_pretrained(model_name, use_fast=True, padding_side="right")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class ResponseCollator(DataCollatorForLanguageModeling):
    """Has only what follows the mark learnt."""

    def torch_call(self, examples: list[Any]) -> dict[str, Any]:
        """A batch whose labels begin where the response does."""
        batch = super().torch_call(examples)
        # Its first tokens are others where a text goes before them.
        mark = self.tokenizer.encode(ANSWER_MARK, add_special_tokens=False)[2:]
        for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"], strict=True):
            starts = [at for at in range(len(ids)) if ids[at : at + len(mark)] == mark]
            labels[: starts[0] + len(mark) if starts else len(ids)] = -100
        return batch
