"""What a machine says about itself that needs no machine to test."""

from edgepress.targets.worker.facts import parse_power_mode, power_mode


def test_the_power_mode_of_a_jetson() -> None:
    assert parse_power_mode("NV Fan Mode:quiet\nNV Power Mode: MODE_15W\n2\n") == "15W"
    assert parse_power_mode("NV Power Mode: MAXN\n0\n") == "MAXN"
    assert parse_power_mode("no such thing") == ""


def test_other_machines_have_none(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert power_mode() == ""


def test_the_tool_is_asked(monkeypatch, tmp_path) -> None:
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\necho NV Power Mode: MODE_30W\necho 2\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert power_mode() == "30W"
