"""For whom a certificate is: what is said of it before is what callers make of it."""

from pathlib import Path

import pytest

from hsplit_flower.errors import CertificateError, ConfigError, WorkerRejectedError
from hsplit_flower.settings import Worker
from hsplit_flower.transport.certificate_files import is_for
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.port_certificates import PortCertificates
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.transport.security import Security
from tests.transport.parties import Pair, Parties, issued, shown_by_grpc

ONCE = ChannelSettings(num_tries=1, pause_seconds=0.05, step_timeout_seconds=2.0)
MADE = {
    "a name and an address": {"hosts": ("localhost", "127.0.0.1")},
    "a name": {"hosts": ("localhost",)},
    "an address": {"hosts": ("127.0.0.1",)},
    "somebody else": {"hosts": ("gpu.example",)},
    "somebody else, and a common name that counts no more": {
        "hosts": ("gpu.example",),
        "common_name": "localhost",
    },
    "a common name": {"hosts": (), "common_name": "localhost"},
    "an address as common name": {"hosts": (), "common_name": "127.0.0.1"},
}


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    return Parties(tmp_path_factory.mktemp("certificates"))


def _takes_it(address: str, security: Security) -> bool:
    """Whether a caller gets as far as to hear that there is no worker."""
    remote = RemoteWorker(address, "", ONCE, security)
    try:
        remote.close("none")
    except WorkerRejectedError as error:
        if isinstance(error, CertificateError):
            assert "and one for " in str(error), "of its hosts"
            return False
        return True
    finally:
        remote.stop()
    raise AssertionError("somebody answers")


@pytest.mark.parametrize("name", MADE)
def test_a_certificate_is_for_a_host_where_callers_take_it(name: str, parties: Parties) -> None:
    own = issued(parties.folder, "made", parties.authority, **MADE[name])  # type: ignore[arg-type]
    trusting = Security(is_secured=True, authorities=Path(parties.authority.certfile).read_bytes())
    with shown_by_grpc(own) as port:
        for host in ("localhost", "127.0.0.1"):
            assert _takes_it(f"{host}:{port}", trusting) == is_for(own.certificate, host), host


def _port(own: Pair, host: str, *, tells_clients: bool = True) -> PortCertificates:
    return PortCertificates(Worker(host=host, **own.files), tells_clients=tells_clients)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_address_in_the_common_name_alone_is_told_at_the_start(
    parties: Parties, host: str
) -> None:
    """As many make them by hand; no caller would take it."""
    own = issued(parties.folder, "bare", parties.authority, hosts=(), common_name="127.0.0.1")
    for tells_clients in (True, False):
        with pytest.raises(
            ConfigError, match=r"is for no host \(an address must be in its subject"
        ):
            _port(own, host, tells_clients=tells_clients)


def test_who_is_called_by_what_others_say_may_listen_on_another_host(parties: Parties) -> None:
    """A worker of its own listens on an address of its machine and is called by a name."""
    own = parties.elsewhere
    assert _port(own, "10.1.2.3", tells_clients=False).trust.is_secured
    with pytest.raises(ConfigError, match=r"is for gpu.example, 10.0.0.9, and clients are told"):
        _port(own, "10.1.2.3")
