"""The table of `sensitivity` as a picture: groups down, ratios across, the darker the higher the loss rises."""

from pathlib import Path

from edgepress.errors import UserError
from edgepress.prune.sensitivity import SensitivityTable

ENDINGS = (".svg", ".png", ".pdf")
ROW_INCHES = 0.22


def draw(table: SensitivityTable, path: Path) -> None:
    """Write the heat map; the ending of `path` decides the format.

    Raises:
        UserError: an ending that is none of .svg, .png, .pdf; nothing to draw.
    """
    if path.suffix not in ENDINGS:
        raise UserError(f"cannot draw {path}", found=path.suffix or "no ending", expected=", ".join(ENDINGS))
    if not table.rows:
        raise UserError("nothing to draw", found="no group that could be cut", expected="at least one")
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    ratios = sorted({row.ratio for row in table.rows})
    names = list(dict.fromkeys(row.group for row in table.rows))
    rises = [[max(table.rise(name, ratio), 0.0) for ratio in ratios] for name in names]
    figure = Figure(figsize=(3.5 + len(ratios), 1.2 + ROW_INCHES * len(names)), layout="constrained")
    axes = figure.subplots()
    highest = max(max(row) for row in rises) or 1.0
    image = axes.imshow(rises, aspect="auto", cmap="magma_r", norm=PowerNorm(0.5, 0.0, highest))
    axes.set_xticks(range(len(ratios)), [f"-{ratio:.0%}" for ratio in ratios])
    axes.set_yticks(range(len(names)), names, fontsize=7)
    figure.colorbar(image, label=f"rise of the loss ({table.loss:.4g} before)")
    figure.savefig(path)
