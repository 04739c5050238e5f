"""Chat templates in the manner of model families, with marks around what the assistant generates.

Written for these tests. Each shows a habit that a way of finding answers must cope with.
"""

import re

CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}
{%- else -%}
{{ message['content'] + '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""A line end after each turn, which nobody generates."""

HEADERS = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] | trim + '<|eot_id|>' }}{%- endgeneration -%}
{%- else -%}
{{ message['content'] | trim + '<|eot_id|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif -%}
"""
"""Trims what is said, and begins with a token of its own."""

TURNS = """\
{{- bos_token -}}
{%- set ahead = namespace(text='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set ahead.text = message['content'] + '\\n\\n' -%}
{%- elif message['role'] == 'assistant' -%}
{{ '<start_of_turn>model\\n' }}
{%- generation -%}{{ message['content'] | trim + '<end_of_turn>' }}{%- endgeneration -%}{{ '\\n' }}
{%- else -%}
{{ '<start_of_turn>user\\n' + ahead.text + message['content'] | trim + '<end_of_turn>\\n' }}
{%- set ahead.text = '' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""
"""Calls the assistant otherwise, and has no turn for the system."""

INSTRUCTIONS = """\
{{- bos_token -}}
{%- set ahead = namespace(text='', turns=0) -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set ahead.text = message['content'] + '\\n\\n' -%}
{%- else -%}
{%- if (message['role'] == 'user') != (ahead.turns % 2 == 0) -%}
{{ raise_exception('user and assistant must take turns') }}
{%- endif -%}
{%- set ahead.turns = ahead.turns + 1 -%}
{%- if message['role'] == 'user' -%}
{{ '[INST] ' + ahead.text + message['content'] + ' [/INST]' }}
{%- set ahead.text = '' -%}
{%- else -%}
{%- generation -%}{{ ' ' + message['content'] + eos_token }}{%- endgeneration -%}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
"""
"""Asks for an answer by nothing of its own, and insists on turns."""

ENDING = """\
{%- for message in messages -%}
{{ '<|' + message['role'] + '|>\\n' }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] + '<|end|>' }}{%- endgeneration -%}
{%- else -%}
{{ message['content'] + '<|end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- else -%}{{ eos_token }}{%- endif -%}
"""
"""Ends a whole conversation with a token that earlier answers do not have after them."""

WORDS = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ '### Response:\\n' }}
{%- generation -%}{{ message['content'] }}{%- endgeneration -%}{{ '\\n\\n' }}
{%- else -%}
{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### Response:\\n' }}{%- endif -%}
"""
"""Has no tokens of its own, so that nothing ends an answer."""

FAMILIES = {
    "chatml": CHATML,
    "headers": HEADERS,
    "turns": TURNS,
    "instructions": INSTRUCTIONS,
    "ending": ENDING,
    "words": WORDS,
}

THINKING = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' and loop.last -%}
{{ '<think>\\n\\n</think>\\n\\n' }}
{%- endif -%}
{{ message['content'] + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""Writes thoughts before the last answer and takes them out of earlier ones."""

SHOUTING = CHATML.replace("message['content'] + '<|im_end|>'", "message['content'] | upper", 1)
"""Changes the words of an answer."""

TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
)
"""What these families' tokenizers read as a token of its own."""


def without_marks(template: str) -> str:
    """The template as most models have it."""
    return re.sub(r"\{%- (end)?generation -%\}", "{{- '' -}}", template)
