import subprocess
import sys
from types import ModuleType

import hsplit_flower.data

PUBLIC = {
    "EncodedExample", "Example", "PROMPT_STYLES", "RESTAURANTS", "SPLITS",
    "batches", "collated", "describe", "encode_examples", "encode_prompts", "end_token_id",
    "format_prompt", "formatted", "labels_of", "load_examples", "pad_token_id",
    "parse_meaning", "partition", "start_ids", "thinned",
    "write_meaning",
}  # fmt: skip

SCRIPT = """
import sys
import hsplit_flower.data as data
data.load_examples("restaurants", "dev")
heavy = {"flwr", "datasets", "flwr_datasets", "matplotlib", "pandas", "ray", "grpc"}
print(sorted(heavy & set(sys.modules)))
"""


def test_public_names() -> None:
    """Names that are neither private nor files of the room."""
    names = {
        name
        for name, value in vars(hsplit_flower.data).items()
        if not isinstance(value, ModuleType)
    }
    assert {name for name in names if not name.startswith("_")} == PUBLIC


def test_importing_and_reading_restaurants_pulls_in_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
