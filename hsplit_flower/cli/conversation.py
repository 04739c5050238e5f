"""Texts shown while they are written: one that goes on from a prompt, or the answers of a talk."""

import sys
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase, TextStreamer

from ..client.text_writer import TextWriter
from ..data.chat import ChatTemplate, Message
from ..errors import DataError
from ..settings import Decoding

PROMPT_SIGN = "> "


def show_text(writer: TextWriter, prompt: Sequence[int], decoding: Decoding) -> str:
    """Print what follows a prompt, tokens as they come where one text is followed; and give it."""
    if decoding.num_beams == 1:
        streamer = TextStreamer(
            writer.tokenizer,
            skip_prompt=True,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        (text,) = writer.texts([prompt], decoding, streamer=streamer)
    else:
        (text,) = writer.texts([prompt], decoding)
        print(text, flush=True)
    return text


def hold_conversation(writer: TextWriter, lines: Iterable[str], decoding: Decoding) -> None:
    """Answer line after line, each with all that was said before it, until there are no more.

    Empty lines are passed over.
    """
    messages: list[Message] = []
    for line in _asked_for(lines):
        messages.append(Message(role="user", content=line))
        answer = show_text(writer, turn_ids(writer.tokenizer, messages), decoding)
        messages.append(Message(role="assistant", content=answer.strip()))


def turn_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """The token ids of a conversation up to where the next answer begins, as it was learnt."""
    text = ChatTemplate(tokenizer).render(messages, asks_for_answer=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def checked_text(text: str, what: str) -> str:
    """The text itself, if it is one.

    Raises
    ------
    DataError
        If it holds bytes that are no UTF-8, which Python hands on as halves of characters.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what} is no UTF-8 text: convert it, or type it anew") from None
    return text


def _asked_for(lines: Iterable[str]) -> Iterable[str]:
    """The lines that say something; at a terminal, whoever types is asked for each."""
    asks = sys.stdin.isatty()
    source = iter(lines)
    while True:
        if asks:
            print(PROMPT_SIGN, end="", file=sys.stderr, flush=True)
        try:
            line = checked_text(next(source, ""), "a line of standard input")
        except UnicodeDecodeError as error:
            raise DataError("standard input is no UTF-8 text: convert it to UTF-8") from error
        # An empty line has its end.
        if not line:
            return
        if line.strip():
            yield line.strip()
