"""A ServerApp that is killed while its clients train, on a real SuperLink with real SuperNodes."""

from pathlib import Path

import pytest

from hsplit_flower.server.past_run import read_past_run
from hsplit_flower.settings import Certificates
from tests.apps.flower_app import run_app
from tests.apps.test_deployed import deployment
from tests.faults.flower_run import (
    NODES,
    SETTINGS,
    assert_same_perplexities,
    perplexities,
    programs,
    running,
)
from tests.transport.parties import Parties
from tests.waiting import wait_until


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_it_goes_on_from_its_folder_as_if_it_had_lived(tmp_path: Path) -> None:
    known = Parties(tmp_path)
    files = Certificates(**known.server.files, ssl_ca_certfile=known.authority.certfile)
    with deployment(tmp_path / "flwr", files, NODES) as flower:
        killed = {**SETTINGS, "output-dir": str(tmp_path), "run-name": "killed"}
        folder = tmp_path / "killed"
        with running(flower, killed) as run:
            wait_until(lambda: 1 in perplexities(folder))
            (app,) = programs(flower, "flwr-serverapp")
            app.kill()
            run.wait()
        assert flower.failure() is not None
        left = read_past_run(folder).state.server_round
        assert 1 <= left < SETTINGS["num-server-rounds"], "at most the round under way is lost"
        again = run_app(flower, tmp_path, {**killed, "resume": str(folder)})
        assert flower.failure() is None, again.log[-4000:]
        run_app(flower, tmp_path, {**SETTINGS, "run-name": "undisturbed"})
    assert_same_perplexities(folder, tmp_path / "undisturbed", SETTINGS["num-server-rounds"])
