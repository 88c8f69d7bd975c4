"""The HTML report: complete, self-contained, safe against what models and data are called, readable for everyone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgepress.gate.verdict import Judgement
from edgepress.measure.record import Environment, Evidence, PairedOutcomes, RefusalRecord, StepRecord, Subject
from edgepress.report.document import Document
from edgepress.report.html import render_html, stylesheet
from edgepress.report.write import write

VOID = {"meta", "img", "br", "line", "circle", "rect", "polyline", "link"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.tags for key, value in attributes.items() if key == name]


@pytest.fixture(scope="module")
def html(evidence: Evidence, judgement: Judgement) -> str:
    return render_html(evidence, judgement)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_tag_is_closed(page: Page) -> None:
    assert page.open == []


def test_the_verdict_comes_first(page: Page) -> None:
    positions = [page.text.index(words) for words in ("The evidence does not decide", "Budgets", "Gained and lost")]
    assert positions == sorted(positions)


def test_every_part_of_the_evidence_is_there(page: Page, evidence: Evidence, judgement: Judgement) -> None:
    words = [v.evidence for v in judgement.verdicts]
    words += [s.summary for s in evidence.steps] + [r.node for s in evidence.steps for r in s.refusals]
    words += [layer.name for layer in evidence.compressed.layers] + [c.label for c in evidence.classes]
    words += [*evidence.sensitivity, evidence.command, evidence.environment.machine_class, *evidence.notes]
    words += ["no energy meter: RAPL is not readable, no NVML device", "macs: 0.5", "the clock frequency was not fixed"]
    missing = [word for word in words if word not in page.text]
    assert not missing


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "embed", "base")]
    inside = ("data:image/png;base64,", "data:image/svg+xml;base64,")
    assert all(value.startswith(inside) for value in page.attributes("src"))
    assert all(value.startswith("#") for value in page.attributes("href"))
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html


def test_links_lead_somewhere(page: Page) -> None:
    assert {href.removeprefix("#") for href in page.attributes("href")} <= set(page.attributes("id"))


def test_pictures_speak(page: Page) -> None:
    for tag, attributes in page.tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]


def test_drawings_are_images_in_which_nothing_runs(html: str) -> None:
    assert "<script" not in html
    assert 'src="data:image/svg+xml;base64,' in html and 'alt="Memory of the result on cortex-m4"' in html


def test_tables_have_headers_with_scope_and_what_scrolls_is_reachable(page: Page) -> None:
    headers = [attributes for tag, attributes in page.tags if tag == "th"]
    assert headers and all("scope" in attributes for attributes in headers)
    scrolling = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in scrolling)
    assert sum(tag == "h1" for tag, _ in page.tags) == 1
    assert page.tags[0] == ("html", {"lang": "en"})


def luminance(colour: str) -> float:
    """WCAG 2.2 relative luminance of #rrggbb."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(theme: int) -> None:
    block = re.findall(r":root \{(.*?)\}", stylesheet(), re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", block))
    grounds = {"text": ("page", "card"), "muted": ("page", "card"), "accent": ("page", "card", "accent-soft")}
    grounds |= {name: ("card", f"{name}-soft") for name in ("pass", "fail", "inconclusive")}
    for name, places in grounds.items():
        for place in places:
            assert contrast(colours[name], colours[place]) >= 4.5, (name, place)


def test_names_cannot_break_out(evidence: Evidence, judgement: Judgement) -> None:
    evil = '<script>alert("x")</script><img src=http://example.org/x>'
    step = StepRecord(
        name=evil,
        kind=evil,
        changed=True,
        summary=evil,
        refusals=(RefusalRecord(step=evil, node=evil, found=evil, needed=evil),),
    )
    renamed = evidence.model_copy(
        update={
            "name": evil,
            "command": evil,
            "notes": (evil,),
            "steps": (step,),
            "sensitivity": {evil: {evil: 0.1}},
            "forgotten": tuple(f.model_copy(update={"label": evil, "predicted": evil}) for f in evidence.forgotten),
            "classes": tuple(c.model_copy(update={"label": evil}) for c in evidence.classes),
        }
    )
    verdicts = tuple(v.model_copy(update={"label": evil, "evidence": evil}) for v in judgement.verdicts)
    text = render_html(renamed, judgement.model_copy(update={"verdicts": verdicts, "notes": (evil,)}))
    assert "<script" not in text and "<img src=http" not in text
    assert Page(text).open == []


def test_scarce_evidence_still_makes_a_page() -> None:
    place = Environment(machine_class="m", os="", cpu="cpu", cores=1, memory_bytes=0, python="3")
    bare = Evidence(
        name="bare", created="", edgepress_version="0", command="", seed=0, recipe={}, environment=place,
        baseline=Subject(name="baseline"), compressed=Subject(name="compressed"),
        paired=PairedOutcomes(both=0, only_first=0, only_second=0, neither=0, flips=0),
    )  # fmt: skip
    text = Page(render_html(bare, Judgement(subject="bare"))).text
    assert "nothing was judged" in text
    for absent in ("Gained and lost", "Sensitivity", "Cost per layer", "Parity", "Energy", "not done"):
        assert absent not in text


def test_several_targets_are_told_apart(evidence: Evidence, judgement: Judgement) -> None:
    def doubled(subject: Subject) -> Subject:
        copies = [
            m.model_copy(update={"target": at}) for at in ("local-cpu", "raspberry-pi-5") for m in subject.measurements
        ]
        return subject.model_copy(update={"measurements": tuple(copies)})

    both = {"baseline": doubled(evidence.baseline), "compressed": doubled(evidence.compressed)}
    text = Page(render_html(evidence.model_copy(update=both), judgement)).text
    assert "Latency (raspberry-pi-5)" in text and "Latency (local-cpu)" in text and "Quality against cost" in text


def test_what_is_written_and_its_schema(evidence: Evidence, judgement: Judgement, tmp_path: Path) -> None:
    paths = write(evidence, judgement, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["report.html", "report.md", "report.json"]
    assert not list(paths[0].parent.glob(".*"))
    document = Document.model_validate(json.loads(paths[2].read_text()))
    assert document.evidence == evidence and document.judgement == judgement
    assert paths[0].stat().st_size < 500_000
