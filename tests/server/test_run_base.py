"""Who has another base than a run, as worker, server, or most of the clients have it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hsplit_flower.errors import ConfigError
from hsplit_flower.server.run_base import RunBase, run_base
from hsplit_flower.settings import Model
from hsplit_flower.splitting import Checkpoint
from hsplit_flower.splitting.base_digest import UNREAD, BaseDigest
from hsplit_flower.splitting.base_reading import digest_of
from hsplit_flower.types import ClientInfo
from hsplit_flower.wire.base_text import base_to_text
from tests.families import checkpoint
from tests.server.rounds import SLOW, WORKER
from tests.splitting.checkpoints import rewrite, single


def own(folder: Path) -> BaseDigest:
    return digest_of(Checkpoint(source=str(folder)), torch.float32)


def client(base: BaseDigest) -> ClientInfo:
    return ClientInfo(profile=SLOW, num_examples=1, base=base_to_text(base))


def without(base: BaseDigest, *parts: str) -> BaseDigest:
    """What a site has that was given the other shards only."""
    tensors = {
        name: UNREAD if any(part in name for part in parts) else one
        for name, one in base.tensors.items()
    }
    return replace(base, tensors=tensors)


@pytest.fixture
def ours() -> BaseDigest:
    return own(checkpoint("llama"))


@pytest.fixture
def theirs(tmp_path: Path) -> BaseDigest:
    copy = single("llama", tmp_path)
    rewrite(copy, lambda tensors: {key: one + 1.0 for key, one in tensors.items()})
    return own(copy)


def test_who_has_another_base_is_refused_by_name_and_others_are_not(
    ours: BaseDigest, theirs: BaseDigest
) -> None:
    run = RunBase(digest=ours, whose="the split worker")
    unknown = client(BaseDigest())
    let_in, refused = run.sorted_out({}, {1: client(ours), 2: client(theirs), 3: unknown})
    assert set(let_in) == {1, 3}
    # It has all been confirmed: nothing of it is kept.
    assert not let_in[1].base
    assert set(refused) == {2}
    assert refused[2].startswith("it has another base than the split worker: the values of ")
    assert refused[2].endswith("where a client's own copy lies")


def test_where_nobody_else_has_it_the_base_is_that_of_most_clients(
    ours: BaseDigest, theirs: BaseDigest
) -> None:
    answers = {1: client(theirs), 2: client(ours), 3: client(ours)}
    let_in, refused = RunBase().sorted_out({}, answers)
    assert set(let_in) == {2, 3} and "than most of the clients" in refused[1]
    # Later it is that of those who take part, however many come then.
    later = {4: client(theirs), 5: client(theirs), 6: client(ours)}
    let_in, refused = RunBase().sorted_out(let_in, later)
    assert set(let_in) == {6} and set(refused) == {4, 5}


def test_what_the_worker_lacks_is_compared_between_clients(
    ours: BaseDigest, theirs: BaseDigest
) -> None:
    run = RunBase(digest=without(ours, "layers.0", "embed"), whose="the split worker")
    odd = replace(
        ours,
        tensors={
            **ours.tensors,
            **{name: one for name, one in theirs.tensors.items() if "layers.0" in name},
        },
    )
    answers = {1: client(odd), 2: client(ours), 3: client(ours), 4: client(theirs)}
    let_in, refused = run.sorted_out({}, answers)
    assert set(let_in) == {2, 3}
    assert "than most of the clients" in refused[1] and "than the split worker" in refused[4]


def test_a_text_that_is_no_base_leaves_its_client_out(ours: BaseDigest) -> None:
    strange = replace(client(ours), base="a base like any other")
    let_in, refused = RunBase(digest=ours).sorted_out({}, {1: strange, 2: client(ours)})
    assert set(let_in) == {2}
    assert refused[1].startswith("what it says of its base cannot be read")


def test_worker_and_server_complete_each_other_or_differ(
    ours: BaseDigest, theirs: BaseDigest
) -> None:
    model = Model(name=str(checkpoint("llama")))
    half = replace(WORKER, base=base_to_text(without(ours, "layers.0")))
    assert run_base(model, half, quantised="").digest == ours
    assert run_base(model, WORKER, quantised="").whose == "the server"
    with pytest.raises(ConfigError, match=r"the split worker has loaded .*, and it has another"):
        run_base(model, replace(WORKER, base=base_to_text(theirs)), quantised="")
