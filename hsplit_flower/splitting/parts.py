"""What one side of a cut holds."""

from dataclasses import dataclass

from ..types import Span


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What one side of a cut holds: embeddings or not, a span of blocks, norm and head or not."""

    embeddings: bool
    span: Span
    head: bool

    @classmethod
    def of_client(cls, cut: int, *, keeps_labels: bool) -> "Parts":
        """Embeddings and blocks ``[0, cut)``; norm and head too where the labels stay."""
        return cls(embeddings=True, span=Span(start=0, stop=cut), head=keeps_labels)

    @classmethod
    def of_worker(cls, lowest_cut: int, num_blocks: int) -> "Parts":
        """Blocks ``[lowest_cut, num_blocks)``, norm and head, for every client's cut above it."""
        return cls(embeddings=False, span=Span(start=lowest_cut, stop=num_blocks), head=True)

    @classmethod
    def whole(cls, num_blocks: int) -> "Parts":
        """The unsplit model."""
        return cls(embeddings=True, span=Span(start=0, stop=num_blocks), head=True)
