"""From a hub id only the files that a half needs are downloaded.

A server on the loopback answers as the hub's file interface does, and notes what it is asked for.
The endpoint is read when huggingface_hub is imported, so the loading runs in another process.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.families import FAMILIES, checkpoint, random_model, save

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FAMILY = "llama"
RESTRICTED = "Access to model someone/gated is restricted."
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where the server listens, and which files were taken from it."""

    endpoint: str
    taken: list[str] = field(default_factory=list)


@contextmanager
def _hub(folder: Path) -> Iterator[Hub]:
    """Serve ``folder/OWNER/NAME/FILE`` as models OWNER/NAME."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=self.command == "GET")

        do_GET = do_HEAD

        def _answer(self, *, with_body: bool) -> None:
            owner, name, verb, revision, *rest = [*self.path.strip("/").split("/"), *[""] * 4]
            repository, file = folder / owner / name, rest[0] if rest else ""
            if name == "gated":
                return self._fail("GatedRepo", 403, RESTRICTED)
            if verb != "resolve" or not repository.is_dir():
                return self._fail("RepoNotFound")
            if not (repository / file).is_file():
                return self._fail("EntryNotFound")
            if revision not in ("main", "v1", COMMIT):
                return self._fail("RevisionNotFound")
            data = (repository / file).read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if with_body:
                hub.taken.append(f"{owner}/{name}/{file}")
                self.wfile.write(data)

        def _fail(self, code: str, status: int = 404, message: str = "") -> None:
            self.send_response(status)
            said = {"X-Error-Code": code, "X-Error-Message": message, "Content-Length": "0"}
            for name, value in said.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(endpoint=f"http://127.0.0.1:{server.server_address[1]}")
    (thread := threading.Thread(target=server.serve_forever, daemon=True)).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _models(folder: Path) -> dict[str, str]:
    """Put the hub's models into ``folder``; give the shard of each tensor of the sharded one."""
    family = FAMILIES[FAMILY]
    model = random_model(family.config(), family.attention)
    sharded = save(model, folder / "someone" / "sharded", max_shard_size="3KB")
    save(model, folder / "someone" / "single")
    pickled = folder / "someone" / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((sharded / "config.json").read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"a pickle")
    return dict(json.loads((sharded / INDEX).read_text())["weight_map"])


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the other process reported, what was taken, and which shard holds what."""

    report: dict[str, Any]
    taken: list[str]
    shards: dict[str, str]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Everything is loaded once; importing takes the other process longer than loading."""
    models, home = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("home")
    shards = _models(models)
    with _hub(models) as hub:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.splitting.hub_session", str(home)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert done.returncode == 0, done.stderr
    return Session(report=json.loads(done.stdout), taken=hub.taken, shards=shards)


def _shards_of(session: Session, half: str) -> set[str]:
    return {session.shards[key] for key in session.report[half]["sums"]}


def test_only_the_shards_that_hold_the_half_are_downloaded(session: Session) -> None:
    client, worker = session.report["client"], session.report["worker"]
    needed = {"config.json", INDEX, *_shards_of(session, "client")}
    assert set(client["files"]) == needed
    assert set(worker["files"]) == needed | _shards_of(session, "worker")
    assert len(worker["files"]) < len(set(session.shards.values())) + 2
    untouched = {session.shards[key] for key in session.shards if ".layers.1." in key}
    only_theirs = untouched - _shards_of(session, "client") - _shards_of(session, "worker")
    assert only_theirs
    assert not only_theirs & set(worker["files"])


def test_every_file_is_taken_once(session: Session) -> None:
    assert len(session.taken) == len(set(session.taken))


def test_the_tensors_are_those_of_the_model(session: Session) -> None:
    whole = load_file(checkpoint(FAMILY) / "model.safetensors")
    for half in ("client", "worker"):
        for key, total in session.report[half]["sums"].items():
            assert total == float(whole[key].double().sum())


def test_a_model_in_one_file_is_loaded_too(session: Session) -> None:
    """Embedding, seven weights and two norms."""
    assert session.report["single"] == 10
    assert "someone/single/model.safetensors" in session.taken


def test_pickle_files_are_refused_and_not_downloaded(session: Session) -> None:
    assert "pickle files" in session.report["someone/pickled"]
    assert not [file for file in session.taken if file.endswith(".bin")]


def test_of_a_gated_model_the_hubs_words_are_told_and_what_to_do(session: Session) -> None:
    said = session.report["someone/gated"]
    assert f"({RESTRICTED})" in said
    assert "/someone/gated, then run `hf auth login`, or set HF_TOKEN" in said


def test_an_unknown_model_is_refused(session: Session) -> None:
    assert "'someone/unknown'" in session.report["someone/unknown"]
    assert "no usable model configuration" in session.report["someone/unknown"]
