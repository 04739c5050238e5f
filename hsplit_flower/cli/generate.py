"""``hsplit generate``: texts of a base with an adapter, whole or split with a worker."""

import sys

from ..errors import CertificateError, ConfigError, DataError, WorkerUnavailableError
from ..settings import Decoding, Link, Model, Settings, SplitText, Worker, setting
from .field_option import OtherDefault
from .options import Chosen, Offer, Options


class Asked(Settings):
    """What a text is asked for with."""

    prompt: str = setting("", "What the text goes on from.")
    adapter: str = setting(
        "", "Folder of a PEFT adapter, or of a run, whose adapter is taken then; empty takes none."
    )
    personal_adapter: str = setting(
        "",
        "Folder of an adapter of a client's own, which goes on top of --adapter: one that the "
        "client trained after that run, and kept.",
    )
    chat: bool = setting(
        False,
        "Whether lines of standard input are the turns of a conversation, each answered in the "
        "tokenizer's chat template, or a plain one where it has none.",
    )
    device: str = setting(
        "", "Where the model runs, as cpu or cuda; empty takes a GPU if there is one."
    )


OPTIONS = Options(
    Offer(group=Asked, arguments=("prompt",)),
    Offer(
        group=Model,
        names={"name": ("--model",)},
        defaults={
            "name": OtherDefault(value=None, reason="the adapter's own, llama-tiny without one")
        },
    ),
    Offer(group=Decoding),
    Offer(
        group=Worker,
        fields=(
            "address",
            "operator_token_file",
            "ssl_ca_certfile",
            "ssl_certfile",
            "ssl_keyfile",
            "insecure",
        ),
        names={"address": ("--worker",), "operator_token_file": ("--token-file",)},
    ),
    Offer(group=SplitText),
    Offer(group=Link, fields=("wire_type",)),
)


NOTHING_WRITTEN = (
    "the model ended its text at once: an adapter that has learnt conversations wants --chat, and "
    "one that has learnt texts wants a prompt of their form"
)


@OPTIONS.command
def command(chosen: Chosen) -> None:
    """Write on from PROMPT, or answer a conversation.

    Tokens are shown as they come; of several beams, the text when it is there. With --worker this
    device has the first blocks only, and the worker the rest, with the same adapter.
    """
    asked = chosen[Asked]
    if asked.chat == bool(asked.prompt):
        raise ConfigError(
            'a prompt is wanted, as in hsplit generate "The first line", or --chat, which reads '
            "standard input, and not both"
        )
    # These bring torch, for which neither help nor a mistyped option need wait.
    from .conversation import hold_conversation, show_text
    from .make_generation import writer_of

    try:
        with writer_of(
            asked.adapter, asked.device, chosen, personal=asked.personal_adapter
        ) as writer:
            if asked.chat:
                hold_conversation(writer, sys.stdin, chosen[Decoding])
            elif not show_text(writer, writer.encoded(asked.prompt), chosen[Decoding]).strip():
                print(NOTHING_WRITTEN, file=sys.stderr)
    except (ConfigError, CertificateError, DataError, WorkerUnavailableError) as error:
        raise type(error)(OPTIONS.spoken(str(error))) from error
