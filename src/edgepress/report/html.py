"""The report as one self-contained HTML file: no network, no script needed to read it."""

from functools import cache
from typing import Any

from edgepress.gate.verdict import Judgement
from edgepress.gate.wording import SYMBOLS, in_terms_of, interval_in_words, limit_in_words
from edgepress.measure.record import Evidence
from edgepress.report.changes import changes


def render_html(evidence: Evidence, judgement: Judgement) -> str:
    """Verdict first, then the evidence behind it."""
    return str(_template("report.html.j2").render(evidence=evidence, judgement=judgement, changes=changes(evidence)))


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgepress.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        symbols=SYMBOLS, in_terms_of=in_terms_of, interval_in_words=interval_in_words, limit_in_words=limit_in_words
    )
    return environment


def _template(name: str) -> Any:
    return _environment().get_template(name)
