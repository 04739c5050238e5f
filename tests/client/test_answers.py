"""What a node cannot do is answered in words, also where the app's own code finds it out."""

from pathlib import Path
from pickle import dumps, loads
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.tools.threads import be_the_server
from hsplit_flower.client.app import describe_device, errors_as_replies
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.wire.error_text import signature
from hsplit_flower.wire.instructions import QUERY_KEY
from tests.client.test_app import NODE, context, reason_of


def query(**about: str) -> Message:
    be_the_server()
    content = RecordDict({QUERY_KEY: ConfigRecord({"dtype": "float32", **about})})
    return Message(content=content, message_type=MessageType.QUERY, dst_node_id=NODE)


def app(error: Exception) -> ClientApp:
    made = ClientApp(mods=[errors_as_replies])

    @made.query()
    def asked(msg: Message, context: Context) -> Message:
        raise error

    return made


def test_what_the_apps_own_code_finds_wrong_is_a_reply_with_the_clients_name(
    flower_log: list[str],
) -> None:
    told = reason_of(app(ConfigError("no partition"))(query(), context(name="clinic-a")))
    assert signature(told) == ("ConfigError: no partition", "clinic-a")
    assert flower_log == ["this client cannot do its part: no partition"]


def test_what_a_file_holds_is_in_no_reply_and_no_log(flower_log: list[str]) -> None:
    error = DataError("line 2 has 1 column", private_detail="a patient's own words")
    told = signature(reason_of(app(error)(query(), context(name="clinic-a"))))
    assert told == ("DataError: line 2 has 1 column", "clinic-a")
    assert flower_log == ["this client cannot do its part: line 2 has 1 column"]
    # As Ray carries it.
    assert loads(dumps(error)).private_detail == error.private_detail


def test_an_error_of_the_apps_is_left_to_flower() -> None:
    with pytest.raises(ZeroDivisionError):
        app(ZeroDivisionError("theirs"))(query(), context())


@pytest.mark.parametrize("is_its_own", [True, False])
def test_a_client_without_the_model_says_so_before_anything_is_planned_for_it(
    tmp_path: Path, is_its_own: bool
) -> None:
    missing = str(tmp_path / "nowhere")
    own: dict[str, Any] = {"model": missing} if is_its_own else {}
    asked = query(model="llama-tiny" if is_its_own else missing)
    told = reason_of(describe_device(asked, context(**own), num_examples=1))
    assert told.startswith("UnsupportedModelError") and missing not in told


def test_a_client_with_the_model_answers(flower_log: list[str]) -> None:
    assert describe_device(query(model="llama-tiny"), context(), num_examples=1).has_content()
