"""A page as a browser would read it: which elements it has, whether each is closed."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br"}
# Of these the parser reports what is written as <name/>.
LOADING = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}


@dataclass
class Page(HTMLParser):
    """What was read; ``faults`` are elements that are not closed in their order."""

    tags: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "svg" and given.get("role") == "img":
            self.labels.append(given.get("aria-label"))
        self.addresses += [str(value) for name, value in attrs if name in LOADING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        if not self.open_tags or self.open_tags.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All that is shown, in one line."""
        return " ".join(" ".join(self.texts).split())


def read_page(document: str) -> Page:
    """The page that this is."""
    page = Page()
    page.feed(document)
    page.close()
    page.faults += [f"<{tag}> is never closed" for tag in page.open_tags]
    return page
