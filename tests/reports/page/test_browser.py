"""A page in a real browser: it opens within a second, loads nothing, and fits a phone."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hsplit_flower.reports.page import write_report
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


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("number", [1, 3], ids=["one run", "several runs"])
def test_a_page_opens_within_a_second_and_fits(tmp_path: Path, number: int, width: int) -> None:
    runs = [run_of(left_out=["old-laptop"], num_rounds=40), run_of("day"), void_run()][:number]
    folders = [write_run(run, tmp_path) for run in runs]
    written = write_report(folders, tmp_path / "page.html")
    seen = opened(written, width)
    assert seen["loaded"] == []
    assert seen["width"] <= width
    assert seen["pictures"] == [], "texts that lie beside their pictures"
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
