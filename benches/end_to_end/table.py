"""Rows to one Markdown table."""

HEADINGS = ["scenario", "measured", "value", "beside", "ratio", "goal", "met"]


def number(value):
    """Three digits that count, thousands as they are."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cells(row):
    value = f"{number(row.value)} {row.unit}".strip()
    if row.spread and row.spread[0] != row.spread[1]:
        value += f" ({number(row.spread[0])}–{number(row.spread[1])})"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    met = {None: "", True: "yes", False: "**no**"}[row.met]
    return [row.scenario, row.name, value, row.beside, ratio, row.goal, met]


def markdown(rows):
    lines = [HEADINGS, ["---"] * len(HEADINGS)] + [cells(row) for row in rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
