"""The files that a secured channel is made from, under the names that Flower gives them."""

from pydantic import model_validator
from typing_extensions import Self

from .fields import setting
from .group import Settings


class Certificates(Settings):
    """Paths of PEM files; none at all is a plain channel, for loopback and trusted networks."""

    ssl_ca_certfile: str = setting("", "Certificate of the authority that the other side is of.")
    ssl_certfile: str = setting("", "This side's own certificate.")
    ssl_keyfile: str = setting("", "The key of this side's own certificate.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if bool(self.ssl_certfile) != bool(self.ssl_keyfile):
            raise ValueError("ssl_certfile and ssl_keyfile go together: give both, or none")
        return self

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to secure a channel with."""
        return not self.ssl_ca_certfile and not self.ssl_certfile
