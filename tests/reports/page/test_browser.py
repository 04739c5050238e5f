"""A page in a real browser: it opens within a second, loads nothing, and fits a phone."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hsplit_flower.reports.metrics import TrainingLine
from hsplit_flower.reports.page import write_report
from hsplit_flower.reports.run import Run
from tests.reports.page.runs import run_of, void_run, write_run

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PHONE, DESKTOP = 390, 1280
# Opens a page in a frame of this width, and leaves in its own text what it saw.
FRAME = """<!DOCTYPE html><title>frame</title>
<style>iframe {{ width: {width}px; height: 800px; border: 0 }}</style>
<body><script>
const frame = document.createElement("iframe"), started = performance.now();
frame.onload = () => {{
  const page = frame.contentDocument.documentElement;
  page.getBoundingClientRect();
  const milliseconds = performance.now() - started;
  const seen = {{
    milliseconds, width: page.scrollWidth,
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map((each) => each.name),
    pictures: [...page.querySelectorAll("svg[role=img]")].map((each) => {{
      const box = each.getBoundingClientRect();
      return [...each.querySelectorAll("text")].filter((text) => {{
        const own = text.getBoundingClientRect();
        return own.width && (own.left < box.left - 1 || own.right > box.right + 1);
      }}).map((text) => text.textContent);
    }}).flat(),
    overlaps: [...page.querySelectorAll("svg[role=img]")].map((each) => {{
      // The boxes of texts that stand aslant say nothing of what they cover.
      const texts = [...each.querySelectorAll("text:not([transform])")].map(
        (text) => [text.textContent, text.getBoundingClientRect()]);
      return texts.flatMap(([text, box], place) => texts.slice(place + 1).filter(([, other]) =>
        Math.min(box.right, other.right) - Math.max(box.left, other.left) > -1 &&
        Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top) > 4
      ).map(([other]) => `${{text}} on ${{other}}`));
    }}).flat(),
  }};
  document.body.append("SEEN" + JSON.stringify(seen) + "NEES");
}};
frame.src = "{name}";
document.body.append(frame);
</script>"""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium to open the page in"),
]


def restless(run: Run) -> Run:
    """The same with other ranks in each round."""
    lines = []
    for line in run.lines:
        if isinstance(line, TrainingLine):
            ranks = {"sum_of_ranks": 9000 + line.server_round}
            parts = {name: part.model_copy(update=ranks) for name, part in line.clients.items()}
            line = line.model_copy(update={"clients": parts})
        lines.append(line)
    return replace(run, lines=tuple(lines))


SITES = [f"university-hospital-of-the-north-{number}" for number in range(60)]
CASES = {
    "one run": [run_of(left_out=["old-laptop"], num_rounds=40)],
    "several runs": [run_of(left_out=["old-laptop"], num_rounds=40), run_of("day"), void_run()],
    "sixty clients": [restless(run_of(clients=SITES, num_rounds=30, num_blocks=24))],
}


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("case", CASES)
def test_a_page_opens_within_a_second_and_fits(tmp_path: Path, case: str, width: int) -> None:
    folders = [write_run(run, tmp_path) for run in CASES[case]]
    written = write_report(folders, tmp_path / "page.html")
    seen = opened(written, width)
    assert seen["loaded"] == []
    assert seen["width"] <= width
    assert seen["pictures"] == [], "texts that lie beside their pictures"
    assert seen["overlaps"] == [], "texts that lie on each other, or less than a pixel apart"
    assert seen["milliseconds"] < 1000


def opened(page: Path, width: int) -> dict[str, object]:
    """What a browser of this width sees of a page."""
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(width=width, name=page.name), encoding="utf-8")
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            # So that one file may look into another.
            *("--allow-file-access-from-files", f"--user-data-dir={page.parent / 'profile'}"),
            *(f"--window-size={width + 40},900", frame.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found = re.search("SEEN({.*})NEES", done.stdout)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    return dict(json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<")))
