"""Progress is a live line on a terminal and few plain lines elsewhere."""

import io

import pytest

from edgepress_cli import console
from edgepress_cli.console import ConsoleReporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(reporter: ConsoleReporter) -> None:
    reporter.step(1, 2, "prune")
    for epoch in range(50):
        reporter.progress(f"epoch {epoch} [of 50]")
    reporter.result("half the channels", reused=False, seconds=1.25)
    reporter.step(2, 2, "export")
    reporter.result("model.onnx", reused=True, seconds=None)
    reporter.close()


def test_plain_lines_where_nobody_watches() -> None:
    stream = io.StringIO()
    work(ConsoleReporter(stream))
    assert stream.getvalue() == "[1/2] prune: half the channels (1.2 s)\n[2/2] export: model.onnx (reused)\n"


def test_progress_is_thinned_out_not_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0)
    stream = io.StringIO()
    work(ConsoleReporter(stream))
    assert stream.getvalue().count("epoch") == 50


def test_a_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    work(ConsoleReporter(stream))
    assert "epoch 49 [of 50]" in stream.getvalue()
    assert "[1/2] prune: half the channels (1.2 s)\n" in stream.getvalue()
    assert stream.getvalue().endswith("[2/2] export: model.onnx (reused)\n")
