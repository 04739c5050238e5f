"""Fine-tune a split language model on conversations, each client's in a file of its own."""
