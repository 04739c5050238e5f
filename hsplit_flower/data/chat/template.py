"""A tokenizer's chat template, or a plain one where it has none: a conversation as one text."""

from collections.abc import Sequence
from typing import final

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ...errors import DataError
from ..encode import begins_texts, end_token_id
from .conversation import Conversation, Message

PLAIN_TEMPLATE = (
    "{{ start_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "Assistant:{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] }}"
    "{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For a tokenizer without a template: who speaks and a colon, a line a turn."""


@final
class ChatTemplate:
    """How a tokenizer's model reads a conversation.

    Parameters
    ----------
    tokenizer
        Whose template it is; the plain one is taken where it has none.

    Raises
    ------
    DataError
        If the plain one is taken and the tokenizer has no token to end an answer with.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.is_plain = not tokenizer.chat_template
        self._tokenizer = tokenizer
        self._start = str(tokenizer.bos_token) if begins_texts(tokenizer) else ""
        if self.is_plain:
            end_token_id(tokenizer)
        added = tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special}
        self.control_texts = tuple(sorted(special | set(tokenizer.all_special_tokens)))
        """What the tokenizer reads as a token of its own, wherever it stands."""

    def render(
        self, messages: Sequence[Message], place: str = "", *, asks_for_answer: bool = False
    ) -> str:
        """The text of some turns; with what comes before an answer at its end, if that is asked.

        Raises
        ------
        DataError
            If the template refuses the turns; `place` names them.
        """
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=asks_for_answer,
                chat_template=PLAIN_TEMPLATE if self.is_plain else None,
                start_token=self._start,
            )
        except (TemplateError, TypeError) as error:
            roles = ", ".join(turn.role for turn in messages)
            raise DataError(
                f"{place}: the tokenizer's chat template refuses turns of {roles}"
                f"{self._reason(error)}; change the turns, or leave the row out",
                private_detail=str(error),
            ) from None
        return str(text)

    def check_no_control_texts(self, conversation: Conversation) -> None:
        """Refuse turns in which somebody writes what ends or begins turns.

        Raises
        ------
        DataError
            Naming the row and the text: it would be read as a token of the template's.
        """
        for number, turn in enumerate(conversation.messages, start=1):
            for text in self.control_texts:
                if text and text in turn.content:
                    raise DataError(
                        f"{conversation.place}: message {number} has {text!r} in it, which the "
                        "tokenizer reads as a token of its own; take it out, or leave the row out"
                    )

    def _reason(self, error: Exception) -> str:
        """What a template says of roles: words of its own, with nothing taken from a turn."""
        told = str(error)
        is_its_own = bool(told) and told in str(self._tokenizer.chat_template)
        return f" ({told})" if is_its_own else ""
