"""Where in a rendered conversation the assistant's answers stand.

A template's own marks (``{% generation %}``) are rarely there. The template itself always is: the
turns before an answer, rendered with what asks for it, are the beginning of the whole text, and the
answer begins where they end. It ends with the first token of the tokenizer's own after its last
word, which is what the model is to end its turn with; where a template has no such token, with the
last character that is not white space. Both are checked against the whole text.
"""

from ...errors import DataError
from ...rows import Learn
from .conversation import ASSISTANT, Conversation
from .template import ChatTemplate

Spans = tuple[tuple[int, int], ...]


def rendered_answers(
    template: ChatTemplate, conversation: Conversation, learn: Learn = "answers"
) -> tuple[str, Spans]:
    """The text of a conversation, and the characters of it that are learnt, from and up to.

    Raises
    ------
    DataError
        If the template refuses the conversation, changes an answer's words, or writes earlier
        turns otherwise when others follow. Names the row and the turn.
    """
    if not conversation.messages:
        return conversation.text, ((0, len(conversation.text)),)
    template.check_no_control_texts(conversation)
    whole = template.render(conversation.messages, conversation.place)
    if learn == "everything":
        return whole, ((0, len(whole)),)
    turns = [at for at, turn in enumerate(conversation.messages) if turn.role == ASSISTANT]
    if learn == "last-answer":
        turns = turns[-1:]
    return whole, tuple(_span(template, conversation, at, whole) for at in turns)


def _span(
    template: ChatTemplate, conversation: Conversation, at: int, whole: str
) -> tuple[int, int]:
    """From where to where the answer stands that is this turn."""
    place = f"{conversation.place}: message {at + 1}"
    turns = conversation.messages
    before = template.render(turns[:at], place, asks_for_answer=True) if at else ""
    # What is there when nothing follows: where the answer ends is seen in it.
    until = template.render(turns[: at + 1], place)
    if not at:
        before = until[: until.find(turns[0].content.strip())]
    start = len(before)
    words = turns[at].content.strip()
    found = until.find(words, start)
    if found < 0:
        raise DataError(
            f"{place}: the tokenizer's chat template changes the answer's words, so what is learnt "
            "cannot be told; give the row without what it takes out, or as text"
        )
    end = _end(template, until, found + len(words))
    if not whole.startswith(before) or not whole.startswith(until[:end]):
        raise DataError(
            f"{place}: the tokenizer's chat template writes this turn otherwise when others follow "
            'it, so what is learnt cannot be told; with learn = "last-answer" the last one is'
        )
    return start, end


def _end(template: ChatTemplate, text: str, after: int) -> int:
    """Where an answer ends whose last word ends there."""
    ends = [
        (at, at + len(control))
        for control in template.control_texts
        if control and (at := text.find(control, after)) >= 0
    ]
    # Of several that begin together the longest is the token.
    first = min((at for at, _ in ends), default=-1)
    if first >= 0:
        return max(end for at, end in ends if at == first)
    return max(after, len(text.rstrip()))
