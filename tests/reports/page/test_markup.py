"""Whatever is put into an element is escaped, and shown as one line."""

from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.reports.page.markup import element, picture, printable, shortened
from tests.reports.page.reader import read_page


@given(st.text(), st.text())
def test_any_text_is_content_and_any_text_is_an_attribute(content: str, value: str) -> None:
    read = read_page(element("p", element("b", content), id=value))
    assert read.faults == []
    assert read.tags == ["p", "b"]
    assert "".join(read.texts) == printable(content)
    assert read.ids == ([printable(value)] if printable(value) else [])


@given(st.text(max_size=60), st.integers(3, 40))
def test_a_shortened_name_keeps_both_ends(name: str, most: int) -> None:
    short = shortened(name, most)
    assert len(short) <= max(most, 0)
    if len(name) <= most:
        assert short == name
    else:
        head, _, tail = short.partition("…") if "…" not in name else (name[:1], "", "")
        assert name.startswith(head)
        assert name.endswith(tail)


def test_numbers_have_a_tenth_of_a_pixel() -> None:
    assert element("rect", x=1.0, y=2.26, class_="a", fill=None) == (
        '<rect x="1" y="2.3" class="a"></rect>'
    )


def test_a_wide_picture_is_scrolled() -> None:
    assert "min-width" not in picture(360, 100, "a")
    assert "min-width:900px" in picture(1000, 100, "a")
