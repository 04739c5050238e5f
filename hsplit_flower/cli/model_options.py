"""The options of all commands that read a model."""

import argparse

DTYPES = ("float32", "bfloat16", "float16")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add which model is meant, and how it is loaded."""
    parser.add_argument(
        "--model",
        required=True,
        help="the built-in llama-tiny, a folder with config.json and safetensors, or a hub id; "
        "with HF_HUB_OFFLINE=1 in the environment the hub is never asked (required)",
    )
    parser.add_argument(
        "--revision",
        default="",
        help="commit, tag or branch of a hub model (default: its main branch)",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=DTYPES,
        help="type of the base model's weights; adapters are always float32 (default: %(default)s)",
    )
    parser.add_argument(
        "--attention",
        default="",
        choices=("eager", "sdpa"),
        help="attention implementation (default: the model's own choice)",
    )
