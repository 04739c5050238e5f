"""The texts that are written so far, in a file that a later start goes on with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError

HYPOTHESES_FILE = "hypotheses.jsonl"
_SETTINGS, _INPUT, _HYPOTHESIS = "settings", "input", "hypothesis"
_BEGINNING = f'{{"{_SETTINGS}": '.encode()
_MOST_CHARACTERS = 80


class HypothesesFile:
    """A JSON line of settings, and then one for each input with the text written for it.

    A line that was being written when the process ended is dropped; the whole ones stay.

    Parameters
    ----------
    path
        Where; made with its folder when there is something to write.
    settings
        All that a text depends on, by name. Only a file of the same is gone on with.

    Raises
    ------
    ConfigError
        If the file is of other settings, or none of ours.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._texts: dict[str, str] = {}
        self._settings = dict(settings)
        rows = [self._parsed(line) for line in self._whole_lines()]
        if rows:
            self._check_settings(rows[0], json.loads(json.dumps(self._settings)))
            self._texts = dict(map(self._text, rows[1:]))

    def __contains__(self, text: str) -> bool:
        return text in self._texts

    def __getitem__(self, text: str) -> str:
        return self._texts[text]

    def add(self, hypotheses: Mapping[str, str]) -> None:
        """Write down texts by input, together."""
        rows = [{_INPUT: text, _HYPOTHESIS: own} for text, own in hypotheses.items()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            begin: list[dict[str, Any]] = [] if file.tell() else [{_SETTINGS: self._settings}]
            file.write("".join(_json_line(row) for row in [*begin, *rows]))
        self._texts.update(hypotheses)

    def _whole_lines(self) -> list[str]:
        """The lines that are there; the file is cut after the last whole one."""
        content = self.path.read_bytes() if self.path.exists() else b""
        if not content:
            return []
        if not content.startswith(_BEGINNING[: len(content)]):
            raise self._not_ours("it does not begin with settings")
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) != len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        # Texts may hold characters that end a line for Python, but none that does for JSON.
        return whole.decode(errors="replace").split("\n")[:-1]

    def _parsed(self, line: str) -> dict[str, Any]:
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise self._not_ours(f"{line[:_MOST_CHARACTERS]!r} is not a line of it") from error

    def _text(self, row: Mapping[str, Any]) -> tuple[str, str]:
        try:
            return str(row[_INPUT]), str(row[_HYPOTHESIS])
        except KeyError as error:
            raise self._not_ours(f"a line of it has no {error}") from error

    def _check_settings(self, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        had = there.get(_SETTINGS)
        if not isinstance(had, dict):
            raise self._not_ours("it does not begin with settings")
        other = [
            f"{name} was {had.get(name)!r} and is {wanted.get(name)!r} now"
            for name in dict.fromkeys([*wanted, *had])
            if wanted.get(name) != had.get(name)
        ]
        if other:
            raise ConfigError(
                f"{self.path} was begun with other settings: {'; '.join(other)}. Give the same "
                "again to go on, or another --out to begin anew"
            )

    def _not_ours(self, reason: str) -> ConfigError:
        return ConfigError(
            f"{self.path} is no file of texts of hsplit evaluate: {reason}; give another --out"
        )


def _json_line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
