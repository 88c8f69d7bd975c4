"""Which steps made the artifact, where a folder holds those of other settings as well."""

from pathlib import Path

from tests.pipeline.test_run import run

from edgepress.pipeline.lineage import lineage

QUICK = "measure={latency: null, memory: false, energy: false}"


def test_only_the_steps_behind_the_artifact(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kinds = []
    for steps in (
        "steps=[{prune: {reduce: {macs: 0.3}}}, {quantize: {}}, {export: {}}]",
        "steps=[{quantize: {}}, {export: {}}]",
        "steps=[{prune: {reduce: {macs: 0.6}}}, {quantize: {}}, {export: {}}]",
    ):
        run(project, out, QUICK, steps)
        kinds.append([folder.name.split("-")[1] for folder in lineage(out)])
    assert kinds == [["import", "prune", "quantize", "export"], ["import", "quantize", "export"], kinds[0]]
    assert len(list((out / "steps").glob("*-quantize-*"))) == 3


def test_an_unfinished_run_has_none(tmp_path: Path) -> None:
    assert lineage(tmp_path) == []
