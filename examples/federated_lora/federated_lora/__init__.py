"""Federated LoRA of a whole model, as projects that use Flower and PEFT are written."""
