"""Recurrent layers that go on from run to run: pieces of a sequence give what the whole gives."""

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.exporters.c import CArtifact, Options
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.export import export_graph, one_after_another, reference
from edgepress.targets.emulate import deploy, why_not

STEPS, INPUTS = 12, 5
Runner = Callable[[np.ndarray], np.ndarray]


def stacked(seed: int, kinds: tuple[str, ...], steps: int, *, reverse: bool = False) -> g.Graph:
    """Recurrent layers one behind the other, seven wide; the same weights for any number of steps."""
    draw, tensors, ops, last, width = np.random.default_rng(seed), {}, [], "x", INPUTS
    tensors["x"] = g.Tensor("x", (1, steps, INPUTS), "int8", (0.05,), 3)
    for index, kind in enumerate(kinds):
        rows = 7 * {"lstm": 4, "gru": 3}[kind]
        data = {
            f"w{index}": draw.integers(-128, 128, (rows, width)).astype(np.int8),
            f"r{index}": draw.integers(-128, 128, (rows, 7)).astype(np.int8),
            f"b{index}": draw.integers(-(2**14), 2**14, rows).astype(np.int32),
            f"rb{index}": (draw.integers(-(2**20), 2**20, rows) * (kind == "gru")).astype(np.int32),
        }
        tensors |= {
            name: g.Tensor(name, values.shape, "int8" if values.dtype == np.int8 else "int32", data=values)
            for name, values in data.items()
        }
        out = f"y{index}"
        tensors[out] = g.Tensor(out, (1, steps, 7), "int8", (2.0**-7,), -4)
        factors = [rescale_of(*draw.uniform(*ends, rows)) for ends in ((0.01, 0.5), (1e-5, 5e-3))]
        ops.append(
            g.Recurrent(
                name=f"cell{index}",
                inputs=(last, *data),
                output=out,
                kind=kind,  # type: ignore[arg-type]
                from_input=factors[0],
                from_state=factors[1],
                output_rescale=rescale_of(2.0**-8),
                reverse=reverse,
            )
        )
        last, width = out, 7
    return g.Graph("stacked", tensors, tuple(ops), ("x",), (last,))


def sequence(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, STEPS * INPUTS).astype(np.int8)


KINDS = [("lstm",), ("gru",), ("lstm", "gru"), ("gru", "lstm", "gru")]


@pytest.mark.parametrize("pieces", [1, 3, 4])
@pytest.mark.parametrize("kinds", KINDS)
def test_the_reference_goes_on(kinds: tuple[str, ...], pieces: int) -> None:
    whole = reference(stacked(1, kinds, STEPS), sequence(2))
    parts = one_after_another(stacked(1, kinds, pieces), sequence(2).reshape(-1, pieces * INPUTS))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("pieces", [1, 3, 4])
@pytest.mark.parametrize("kinds", KINDS)
def test_pieces_on_the_host(
    kinds: tuple[str, ...],
    pieces: int,
    host_runner: Callable[[CArtifact], Runner],
    source_file: Path,
    tmp_path: Path,
) -> None:
    whole = reference(stacked(1, kinds, STEPS), sequence(2))
    options = Options(target="host", golden=2, keep_state=True)
    artifact = export_graph(stacked(1, kinds, pieces), source_file, tmp_path / "c", options=options)
    assert artifact.manifest["keeps_state"]
    run = host_runner(artifact)
    library = ctypes.CDLL(str(artifact.folder / "model.so"))
    reset = library.model_reset
    reset.argtypes = [ctypes.c_void_p]
    for _ in range(2):
        reset(run.arena)  # type: ignore[attr-defined]
        rows = sequence(2).reshape(-1, pieces * INPUTS)
        np.testing.assert_array_equal(run(rows).reshape(-1), whole)


def test_pieces_on_the_emulated_core(source_file: Path, tmp_path: Path) -> None:
    if reason := why_not("cortex-m4"):
        pytest.skip(reason)
    kinds = ("lstm", "gru")
    options = Options(target="cortex-m4", golden=1, keep_state=True)
    export_graph(stacked(1, kinds, 3), source_file, tmp_path / "c", options=options)
    ran = deploy(tmp_path / "c", sequence(2).reshape(-1, 3 * INPUTS))
    np.testing.assert_array_equal(ran.outputs.reshape(-1), reference(stacked(1, kinds, STEPS), sequence(2)))


def test_golden_vectors_follow_one_another(source_file: Path, tmp_path: Path) -> None:
    graph = stacked(3, ("lstm",), 2)
    rows = sequence(4).reshape(-1, 2 * INPUTS)
    options = Options(target="host", golden_inputs=rows, keep_state=True)
    text = (export_graph(graph, source_file, tmp_path, options=options).folder / "model_golden.h").read_text()
    expected = np.concatenate(one_after_another(graph, rows))
    written = text.split("model_golden_outputs")[1].split("{")[1].split("}")[0]
    np.testing.assert_array_equal(np.array(written.replace("\n", "").split(","), np.int64), expected)
    assert "model_reset(arena)" in (tmp_path / "example" / "main.c").read_text()
    assert "void model_reset(void *arena);" in (tmp_path / "model.h").read_text()


def test_without_it_every_run_starts_anew(
    host_runner: Callable[[CArtifact], Runner], source_file: Path, tmp_path: Path
) -> None:
    graph = stacked(3, ("gru",), 3)
    artifact = export_graph(graph, source_file, tmp_path / "c", options=Options(target="host", golden=1))
    rows = sequence(4).reshape(-1, 3 * INPUTS)
    np.testing.assert_array_equal(host_runner(artifact)(rows), np.stack([reference(graph, row) for row in rows]))
    assert "reset" not in (artifact.folder / "model.h").read_text()


def test_what_has_no_state_to_keep_is_refused(
    random_graph: Callable[[int], g.Graph], source_file: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"target": "host", "golden": 1, "keep_state": True}
    with pytest.raises(UserError, match="no state to keep"):
        export_graph(random_graph(1), source_file, tmp_path / "a", options=Options(**options))
    with pytest.raises(UserError, match="cannot be kept"):
        export_graph(stacked(1, ("lstm",), 3, reverse=True), source_file, tmp_path / "b", options=Options(**options))
    assert not (tmp_path / "b").exists()
    stateful = replace(Options(**options), name="two_words")
    export_graph(stacked(1, ("lstm",), 3), source_file, tmp_path / "c", options=stateful)
    assert "void two_words_reset(void *arena);" in (tmp_path / "c" / "two_words.h").read_text()
