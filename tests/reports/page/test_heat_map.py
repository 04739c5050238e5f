"""Every cell has its number in it, and is darker where that is larger."""

import re
from functools import partial

from hsplit_flower.reports.page.heat_map import Cell, heat_map
from tests.reports.page.reader import read_page

ROWS, COLUMNS = ("first", "second"), ("a", "b", "c")


def cell(row: int, column: int) -> Cell:
    value = 10.0 * row + column
    return Cell(value=value, text=f"{value:g}", tip=f"{ROWS[row]}, {COLUMNS[column]}")


def drawn(of: object = cell) -> str:
    return heat_map(ROWS, COLUMNS, of, corner="row", description="numbers")  # type: ignore[arg-type]


def test_every_cell_has_its_number() -> None:
    text = read_page(drawn()).text
    assert all(f"{10 * row + column}" in text for row in range(2) for column in range(3))


def test_shades_go_from_light_to_dark() -> None:
    shades = [float(each) for each in re.findall(r'fill-opacity="([\d.]+)"', drawn())]
    assert shades == sorted(shades)
    assert (shades[0], shades[-1]) == (0.06, 0.95)


def test_numbers_on_dark_cells_are_light() -> None:
    assert drawn().count('class="inverse"') == 3
    assert drawn().count('class="inside"') == 3


def test_cells_without_a_number_and_those_beyond_the_cut_have_no_shade() -> None:
    picture = drawn(lambda row, _: Cell(value=None if row else 1.0, text="–", is_hatched=not row))
    assert "fill-opacity" not in picture
    assert picture.count("hatched") == 3


def test_long_titles_stand_aslant() -> None:
    picture = heat_map(["0"], ["gate_proj", "up_proj"] * 4, cell_of_zero, corner="", description="")
    assert picture.count("rotate(-45)") == 8


def cell_of_zero(row: int, column: int) -> Cell:
    return Cell(value=0.0, text="0")


def test_cells_are_as_wide_as_their_numbers() -> None:
    columns = [str(number) for number in range(20)]
    narrow, broad = (
        heat_map(["0"], columns, partial(cell_of, text), corner="", description="")
        for text in ("8", "12345")
    )
    assert width_of(narrow) < width_of(broad)
    assert width_of(broad) >= 20 * 5 * 6  # of five digits in each of 20 cells
    assert 'class="broad"' in broad


def cell_of(text: str, row: int, column: int) -> Cell:
    return Cell(value=1.0, text=text)


def width_of(drawn: str) -> float:
    found = re.search(r'viewBox="0 0 (\d+)', drawn)
    assert found is not None
    return float(found[1])
