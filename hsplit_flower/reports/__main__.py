"""Prints the page on what a run writes of itself, ``docs/metrics.md``."""

from .schema import schema_markdown

if __name__ == "__main__":
    print(schema_markdown(), end="")
