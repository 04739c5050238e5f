"""The page on what a run writes is made from the fields, and says something of each."""

from pathlib import Path

from hsplit_flower.reports.schema import schema_markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_the_page_is_what_the_fields_say() -> None:
    again = "python -m hsplit_flower.reports > docs/metrics.md"
    assert PAGE.read_text(encoding="utf-8") == schema_markdown(), again


def test_every_key_is_explained() -> None:
    rows = [line for line in schema_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert not [row for row in rows if row.endswith("|  |") or "None" in row]
