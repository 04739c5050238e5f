"""Fine-tune a split language model to write sentences from data."""
