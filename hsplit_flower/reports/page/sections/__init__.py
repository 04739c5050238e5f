"""The sections of a page, each a question about a run."""
