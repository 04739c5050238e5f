"""Which workers want certificates, and which channels have them."""

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import Worker
from hsplit_flower.settings.hosts import is_loopback

FILES = {"ssl_certfile": "own.pem", "ssl_keyfile": "own.key"}


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")],
        *[(host, False) for host in ("", "0.0.0.0", "::", "10.0.0.1", "localhost.example", "gpu")],
    ],
)
def test_loopback_is_what_nobody_else_reaches(host: str, wanted: bool) -> None:
    assert is_loopback(host) is wanted


@pytest.mark.parametrize(
    "where",
    [
        {"host": "0.0.0.0"},
        {"host": ""},
        {"host": "10.0.0.1"},
        {"advertised_host": "gpu.example"},
        {"placement": "ray", "host": "0.0.0.0"},
    ],
)
def test_a_worker_that_others_reach_wants_certificates(where: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"wants TLS\. Give ssl_certfile.*or insecure = true"):
        Worker(**where)
    assert not Worker(**where, insecure=True).is_secured
    assert Worker(**where, **FILES).is_secured


def test_on_loopback_certificates_are_a_choice() -> None:
    assert not Worker().is_secured
    assert Worker(**FILES).is_secured


@pytest.mark.parametrize(
    ("given", "is_secured"),
    [
        ({"address": "gpu.example:8600"}, True),
        ({"address": "gpu.example:8600", "insecure": True}, False),
        ({"address": "127.0.0.1:8600"}, False),
        ({"address": "[::1]:8600"}, False),
        ({"address": "127.0.0.1:8600", "ssl_ca_certfile": "ca.pem"}, True),
    ],
)
def test_one_that_runs_elsewhere_is_reached_over_tls(
    given: dict[str, object], is_secured: bool
) -> None:
    assert Worker(**given).is_secured is is_secured


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ssl_certfile": "a"}, "ssl_certfile and ssl_keyfile go together"),
        ({**FILES, "insecure": True}, "insecure = true and certificates are given"),
        ({"ssl_ca_certfile": "ca"}, "the worker's own ssl_certfile and ssl_keyfile are wanted"),
        ({**FILES, "mutual_tls": True}, "wanted in ssl_ca_certfile"),
        ({"operator_token": "short"}, "a secret of 16 characters or more .*not shown"),
    ],
)
def test_what_does_not_go_together(given: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Worker(**given)
