"""``hsplit generate``: texts of a base with an adapter, whole or split with a worker."""

import sys

from ..errors import CertificateError, ConfigError, DataError, WorkerUnavailableError
from ..settings import (
    OPERATOR_TOKEN_FILE_VARIABLE,
    OPERATOR_TOKEN_VARIABLE,
    Decoding,
    Link,
    Model,
    Settings,
    SplitText,
    Worker,
    setting,
)
from .field_option import OtherDefault
from .field_text import default_text
from .options import Chosen, Offer, Options


class Asked(Settings):
    """What a text is asked for with."""

    prompt: str = setting("", "What the text goes on from.")
    adapter: str = setting(
        "", "Folder of a PEFT adapter, or of a run, whose adapter is taken then; empty takes none."
    )
    personal_adapter: str = setting(
        "",
        "Folder of a client's own adapter, which goes on top of --adapter: the one that the client "
        "has trained after that run, and kept.",
    )
    chat: bool = setting(
        False,
        "Whether lines of standard input are the turns of a conversation, each answered with all "
        "that was said before, in the tokenizer's chat template or a plain one where it has none; "
        "the end of the input (Ctrl-D on a terminal) ends it.",
    )
    device: str = setting(
        "",
        "Where the model, or this device's part of it, runs, as cpu or cuda; empty takes a GPU if "
        "there is one.",
    )


OPTIONS = Options(
    Offer(group=Asked, arguments=("prompt",)),
    Offer(
        group=Model,
        names={"name": ("--model",)},
        defaults={
            "name": OtherDefault(value=None, reason="the adapter's own, llama-tiny without one"),
            **{
                name: OtherDefault(
                    value=None,
                    reason=f"as in the adapter's run, else {default_text(Model.default_of(name))}",
                )
                for name in ("revision", "dtype", "computing_dtype", "attention")
            },
        },
        sentences={
            "dtype": "Type of the base's numbers; adapters are float32 always. nf4 (of 4 bits) and "
            "int8 quantise the matrices while they are loaded, through bitsandbytes: pip install "
            "'hsplit-flower[quantised]'. A base that bitsandbytes has quantised already is taken "
            "as it is.",
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
        sentences={
            "address": "HOST:PORT of a worker (hsplit worker) that has the upper blocks; this "
            "device has the first ones then. Empty has the whole model here.",
            "operator_token_file": "File of a token that the worker lets write: the one that it "
            "was given as --writer-token-file, or its operator's. Empty takes the environment's: "
            f"the file that {OPERATOR_TOKEN_FILE_VARIABLE} names, or {OPERATOR_TOKEN_VARIABLE} "
            "itself.",
            "ssl_ca_certfile": "File of the authority's certificate that the worker's is of. Empty "
            "leaves it to the authorities that gRPC comes with.",
            "ssl_certfile": "File of the certificate that this device shows a worker that asks for "
            "one (hsplit worker --mutual-tls), with those between it and its authority. Empty "
            "shows none.",
            "insecure": "Whether a worker on another machine may do without TLS: everybody on the "
            "way reads hidden states, likely tokens and the token of --token-file then.",
        },
    ),
    Offer(group=SplitText),
    Offer(
        group=Link,
        fields=("wire_type",),
        defaults={"wire_type": OtherDefault(value=None, reason="as the base computes")},
        sentences={"wire_type": "Type that hidden states are sent to the worker as."},
    ),
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
    from .conversation import checked_text, hold_conversation, show_text
    from .make_generation import writer_of

    checked_text(asked.prompt, "the prompt")
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
