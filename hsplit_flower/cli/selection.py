"""Which directions of a run's adapter an export takes, as the options say it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..adapters import LowRank


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is exported: the adapter that the run sent, or by one of three rules what it learnt.

    Attributes
    ----------
    rank
        So many leading directions of every weight.
    energy
        The fewest bytes that keep this share of the squared norm of all weights.
    exact
        All that was learnt.

    Raises
    ------
    ConfigError
        If more than one is asked for, or of what there cannot be.
    """

    rank: int | None = None
    energy: float | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        given = [
            *([f"--rank {self.rank}"] if self.rank is not None else []),
            *([f"--energy {self.energy:g}"] if self.energy is not None else []),
            *(["--exact"] if self.exact else []),
        ]
        if len(given) > 1:
            raise ConfigError(f"got {' and '.join(given)}: each is another adapter, give one")
        if self.rank is not None and self.rank < 1:
            raise ConfigError(f"--rank is {self.rank}: 1 or more is wanted")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise ConfigError(
                f"--energy is {self.energy:g}: a share above 0 and of at most 1 is wanted, as 0.999"
            )

    @property
    def is_the_runs(self) -> bool:
        """Whether it is the adapter that the run itself sent and wrote."""
        return self.rank is None and self.energy is None and not self.exact

    @property
    def folder_name(self) -> str:
        """What an export of it is called beside the run's own adapter."""
        if self.rank is not None:
            return f"export-rank-{self.rank}"
        if self.energy is not None:
            return f"export-energy-{self.energy:.6g}"
        return "export-exact" if self.exact else "export"

    def of(self, sent: "dict[str, LowRank]", learnt: "dict[str, LowRank]") -> "dict[str, LowRank]":
        """What is taken of the adapter that a run sent, or of all that it learnt.

        Parameters
        ----------
        sent
            By weight name.
        learnt
            In canonical form.
        """
        from ..adapters.truncation import ranks_of_energy, truncated

        if self.rank is not None:
            return truncated(learnt, dict.fromkeys(learnt, self.rank))
        if self.energy is not None:
            return truncated(learnt, ranks_of_energy(learnt, self.energy))
        return learnt if self.exact else sent
