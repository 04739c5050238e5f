"""What a model's tokens cost, measured here, under a bar."""

from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data import EncodedExample, batches
from ..metrics import TokenLoss, token_loss


@torch.no_grad()
def measured_loss(
    model: Any, examples: Sequence[EncodedExample], batch_size: int, *, pad_id: int, bar: Progress
) -> TokenLoss:
    """The summed loss of all labels of examples.

    Parameters
    ----------
    model
        One of transformers or PEFT.
    examples
        Labelled where something is to be predicted.
    batch_size, pad_id
        How many at a time, and the token that fills shorter ones up.
    bar
        Shows how far it is.
    """
    # The order changes no sum, and equal lengths side by side need little filling up.
    encoded = sorted(examples, key=len)
    task = bar.add_task("measuring perplexity", total=len(encoded))
    total = TokenLoss()
    for batch in batches(encoded, batch_size, pad_id=pad_id):
        ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        total += token_loss(logits, batch["labels"].to(model.device))
        bar.advance(task, len(ids))
    return total


def measuring_bar() -> Progress:
    """On stderr: what is printed at the end stands alone on stdout."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
