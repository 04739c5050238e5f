"""Memory of each client: a frame for what it was granted, in it what was predicted and measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .bar_chart import KEY_HEIGHT, MOST_ROWS, ROW_HEIGHT, WIDTH, row_heading
from .markup import element, label, picture
from .numbers import bytes_text, share_text
from .scale import scale_for

BAR_HEIGHT = 15.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A client's memory; 0 is what nobody granted or measured."""

    name: str
    granted_bytes: float
    predicted_bytes: float
    measured_bytes: float

    @property
    def used_share(self) -> float | None:
        """How much of what was granted was taken."""
        if not (self.granted_bytes and self.measured_bytes):
            return None
        return self.measured_bytes / self.granted_bytes

    @property
    def most_bytes(self) -> float:
        """The longest of its bars."""
        return max(self.granted_bytes, self.predicted_bytes, self.measured_bytes)


def budget_chart(budgets: Sequence[Budget], *, description: str) -> Markup:
    """A row for each client; of many those that used most of what they had."""
    shown = tightest(budgets)
    top = KEY_HEIGHT + 8
    scale = scale_for([budget.most_bytes for budget in shown], 0.5, WIDTH - 0.5, from_zero=True)
    rows = []
    for number, budget in enumerate(shown):
        y = top + number * ROW_HEIGHT
        used = budget.used_share
        end = bytes_text(budget.measured_bytes or budget.predicted_bytes)
        if used is not None:
            end = f"{end}, {share_text(used)} of granted"
        rows.append(row_heading(budget.name, end, y))
        for class_, value, inset in (
            ("granted", budget.granted_bytes, 0.0),
            ("predicted", budget.predicted_bytes, 2.5),
            ("measured", budget.measured_bytes, 5.0),
        ):
            if value <= 0:
                continue
            rows.append(
                element(
                    "rect",
                    element("title", f"{budget.name}, {class_}: {bytes_text(value)}"),
                    x=scale.start,
                    y=y + 15.5 + inset,
                    width=scale.place(value) - scale.start,
                    height=BAR_HEIGHT - 2 * inset,
                    class_=class_,
                )
            )
    return picture(WIDTH, top + len(shown) * ROW_HEIGHT + 2, description, _key(), *rows)


def tightest(budgets: Sequence[Budget]) -> list[Budget]:
    """All of them, in their order; of many those that used most of what they had."""
    if len(budgets) <= MOST_ROWS:
        return list(budgets)
    kept = sorted(budgets, key=lambda budget: -(budget.used_share or 0.0))[:MOST_ROWS]
    return [budget for budget in budgets if budget in kept]


def _key() -> Markup:
    parts = []
    for number, name in enumerate(("granted", "predicted", "measured")):
        x = number * WIDTH / 3
        parts.append(element("rect", x=x + 0.5, y=1, width=14, height=10, class_=name))
        parts.append(label(x + 20, 10, name, class_="tick"))
    return Markup("").join(parts)
