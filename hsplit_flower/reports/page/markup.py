"""Elements of SVG and HTML as text; whatever is put into them is escaped."""

from markupsafe import Markup, escape

PHONE_WIDTH = 360.0


def printable(text: str) -> str:
    """In one line, with a mark for each character that is none, or that turns others round."""
    line = " ".join(text.split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def element(name: str, *content: str, **attributes: str | float | None) -> Markup:
    """``<name …>content</name>``; content is escaped unless it is an element itself.

    Attributes are named as Python must, ``class_`` and ``text_anchor``; those that are None are
    left out. Numbers have one digit after the point, a tenth of a pixel.
    """
    given = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(each if isinstance(each, Markup) else text(each) for each in content)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), given, inner)


def text(value: str) -> Markup:
    """Printable and escaped."""
    return escape(printable(value))


def picture(width: float, height: float, description: str, *content: Markup) -> Markup:
    """An SVG of this size, which says in words what it shows.

    One that is wider than a phone has the page's whole width; where that is too little it is
    scrolled, and not made smaller than can be read.
    """
    is_broad = width > PHONE_WIDTH
    return element(
        "svg",
        *content,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        class_="broad" if is_broad else None,
        style=f"min-width:{0.9 * width:.0f}px;max-width:{1.2 * width:.0f}px" if is_broad else None,
        role="img",
        aria_label=description,
    )


def label(
    x: float, y: float, content: str, *, anchor: str = "start", class_: str | None = None
) -> Markup:
    """A line of text whose base is at ``y``."""
    end = None if anchor == "start" else anchor
    return element("text", content, x=x, y=y, text_anchor=end, class_=class_)


def shortened(name: str, most: int) -> str:
    """A name of at most so many characters, its middle left out."""
    if len(name) <= most:
        return name
    head = (most - 1 + 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return printable(value)
    return f"{value:.1f}".removesuffix(".0")
