"""What became of a set's rows when they were made into tokens, as numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EncodingCounts:
    """Rows and tokens of a set.

    Attributes
    ----------
    num_rows
        That were read.
    num_long
        That have more tokens than a row may have: they are left out, or cut.
    num_without_answer
        That have nothing to learn, as they are or when they are cut, and are left out.
    num_tokens, num_learnt_tokens
        Of the rows that are kept, and what of these is learnt.
    """

    num_rows: int = 0
    num_long: int = 0
    num_without_answer: int = 0
    num_tokens: int = 0
    num_learnt_tokens: int = 0

    @property
    def learnt_share(self) -> float:
        """Of the tokens that are kept."""
        return self.num_learnt_tokens / self.num_tokens if self.num_tokens else 0.0
