"""What ``hsplit export`` is asked for."""

from dataclasses import dataclass
from pathlib import Path

from .selection import Selection


@dataclass(frozen=True, kw_only=True)
class ExportOrder:
    """A command line of it.

    Attributes
    ----------
    run
        The folder of the run.
    selection
        Which directions are taken.
    out, merge_into
        Folders for an adapter, and for the whole model.
    dtype
        Of the numbers that are written; None leaves an adapter float32, and a model as it is.
    dataset, num_examples
        What perplexity is measured on, if on anything.
    may_overwrite
        Whether an adapter that is there is replaced.
    """

    run: Path
    selection: Selection
    out: Path | None = None
    merge_into: Path | None = None
    dtype: str | None = None
    dataset: str | None = None
    num_examples: int | None = None
    may_overwrite: bool = False

    @property
    def adapter_folder(self) -> Path | None:
        """Where an adapter goes, if one is written: a merged model is enough by itself."""
        if self.out is None and self.merge_into is None:
            return self.run / self.selection.folder_name
        return self.out

    @property
    def is_the_runs(self) -> bool:
        """Whether what is exported is, number for number, what the run wrote."""
        return self.selection.is_the_runs and self.dtype in (None, "float32")
