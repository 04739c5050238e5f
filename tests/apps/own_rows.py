"""Files of rows that clients have of their own."""

import json
from pathlib import Path

SECRET = "zwyntrab"
"""In every row of a client's file, and nowhere else."""


def file_of(path: Path, count: int = 30, start: int = 0) -> Path:
    rows = [
        {"prompt": f"Where is the {SECRET} {number}?", "completion": f"It is at {number}."}
        for number in range(start, start + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
