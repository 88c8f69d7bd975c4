"""What an export writes: complete, warning-free, linkable beside another, clean under sanitizers; options checked."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.exporters.c import Options
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.export import export_graph, golden_vectors, reference

WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def compiler() -> str:
    found = shutil.which("cc")
    if found is None:
        pytest.skip("no C compiler (cc) here")
    return found


def test_the_manifest_describes_what_was_written(
    random_graph: Callable[[int], g.Graph], source_file: Path, tmp_path: Path
) -> None:
    artifact = export_graph(random_graph(3), source_file, tmp_path / "c", options=Options(name="net"))
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert manifest == artifact.manifest
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((tmp_path / "c" / name).read_bytes()).hexdigest() == digest
    assert manifest["arena_bytes"] == max(b["offset"] + b["size"] for b in manifest["buffers"])
    written = {str(p.relative_to(tmp_path / "c")) for p in (tmp_path / "c").rglob("*") if p.is_file()}
    assert written == {*manifest["files"], "manifest.json"}


def test_only_used_kernels_are_written(
    random_graph: Callable[[int], g.Graph], source_file: Path, tmp_path: Path
) -> None:
    export_graph(random_graph(3), source_file, tmp_path / "c", options=Options(name="net", target="host"))
    included = set((tmp_path / "c" / "net.c").read_text().split('"kernels/')[1:])
    names = {text.split('"')[0] for text in included}
    assert names == {p.name for p in (tmp_path / "c" / "kernels").iterdir()}


@pytest.mark.parametrize("seed", [1, 5, 8])
def test_sanitizers_find_nothing(
    seed: int, random_graph: Callable[[int], g.Graph], source_file: Path, compiler: str, tmp_path: Path
) -> None:
    export_graph(random_graph(seed), source_file, tmp_path / "c", options=Options(name="net", target="host"))
    flags = [*WARNINGS, "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I."]
    run(compiler, *flags, "-o", "t", "net.c", "net_weights.c", "example/main.c", cwd=tmp_path / "c")
    assert "all golden vectors match" in run("./t", cwd=tmp_path / "c")


@pytest.mark.emulator
def test_clang_is_as_content_as_gcc(random_graph: Callable[[int], g.Graph], source_file: Path, tmp_path: Path) -> None:
    if find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    export_graph(random_graph(5), source_file, tmp_path / "c", options=Options(name="net", target="host"))
    for name in ("net.c", "net_weights.c"):
        run(sys.executable, "-m", "ziglang", "cc", *WARNINGS, "-O2", "-c", name, "-o", f"{name}.o", cwd=tmp_path / "c")


def test_two_models_link_into_one_program(
    random_graph: Callable[[int], g.Graph], source_file: Path, compiler: str, tmp_path: Path
) -> None:
    main = ""
    for seed, name in ((1, "first"), (2, "second")):
        export_graph(random_graph(seed), source_file, tmp_path / name, options=Options(name=name, target="host"))
        main += f'#include "{name}.h"\nstatic uint8_t {name}_arena[{name.upper()}_ARENA_BYTES];\n'
    (tmp_path / "main.c").write_text(
        main + "int main(void) { first_run(first_arena); second_run(second_arena); return 0; }\n"
    )
    sources = [tmp_path / name / f"{name}{part}.c" for name in ("first", "second") for part in ("", "_weights")]
    run(
        compiler,
        *WARNINGS,
        "-I",
        tmp_path / "first",
        "-I",
        tmp_path / "second",
        tmp_path / "main.c",
        *sources,
        "-o",
        tmp_path / "both",
    )
    run(tmp_path / "both")


def test_specialised_code_computes_the_same(
    random_graph: Callable[[int], g.Graph], source_file: Path, host_runner: Any, tmp_path: Path
) -> None:
    graph = random_graph(4)
    rows = np.random.default_rng(0).integers(-128, 128, (5, graph.tensor(graph.inputs[0]).size)).astype(np.int8)
    results = [
        host_runner(
            export_graph(graph, source_file, tmp_path / str(flag), options=Options(target="host", specialise=flag))
        )(rows)
        for flag in (False, True)
    ]
    np.testing.assert_array_equal(*results)


def test_the_example_makefile_proves_the_model(
    random_graph: Callable[[int], g.Graph], source_file: Path, compiler: str, tmp_path: Path
) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    export_graph(random_graph(6), source_file, tmp_path / "c", options=Options(name="net", target="host"))
    assert "all golden vectors match" in run("make", "host", cwd=tmp_path / "c")


def test_several_inputs_and_outputs(source_file: Path, host_runner: Any, compiler: str, tmp_path: Path) -> None:
    shapes = {"a": (1, 3, 4, 2), "b": (1, 3, 4, 2), "sum": (1, 3, 4, 2), "table": (1, 3, 4, 2)}
    tensors = {name: g.Tensor(name, shape, "int8", (0.1,), 3) for name, shape in shapes.items()}
    half = rescale_of(0.5)
    add = g.Arithmetic(
        name="add",
        inputs=("a", "b"),
        output="sum",
        kind="add",
        left=half,
        right=half,
        output_rescale=rescale_of(2**-19),
    )
    table = g.Lookup(name="flip", inputs=("b",), output="table", function="flip", table=tuple(range(127, -129, -1)))
    graph = g.Graph("net", tensors, (add, table), ("a", "b"), ("sum", "table"))
    artifact = export_graph(graph, source_file, tmp_path / "c", options=Options(target="host", golden=3))
    rows = np.random.default_rng(0).integers(-100, 100, (5, 48)).astype(np.int8)
    found = host_runner(artifact)(rows)
    np.testing.assert_array_equal(found[:, 24:], -1 - rows[:, 24:])
    np.testing.assert_array_equal(found[:, :24], np.clip(rows[:, :24].astype(int) + rows[:, 24:] - 3, -128, 127))
    flags = [*WARNINGS, "-I."]
    run(compiler, *flags, "-o", "t", "model.c", "model_weights.c", "example/main.c", cwd=artifact.folder)
    assert "all golden vectors match" in run("./t", cwd=artifact.folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(name="Bad Name"), "no identifier"),
        (Options(target="z80"), "no C target"),
        (Options(rounding="triple"), "unknown rounding"),  # type: ignore[arg-type]
        (Options(golden=0), "too few golden vectors"),
    ],
    ids=["name", "target", "rounding", "golden"],
)
def test_senseless_options_are_refused(
    options: Options, said: str, random_graph: Callable[[int], g.Graph], source_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        export_graph(random_graph(3), source_file, tmp_path / "c", options=options)
    assert not (tmp_path / "c").exists()


def test_sums_that_leave_int32_are_refused(source_file: Path, tmp_path: Path) -> None:
    weight = g.Tensor("w", (1, 4), "int8", (1.0,), 0, np.full((1, 4), 127, np.int8))
    bias = g.Tensor("b", (1,), "int32", (1.0,), 0, np.array([2**31 - 1], np.int32))
    tensors = {"x": g.Tensor("x", (1, 4)), "w": weight, "b": bias, "y": g.Tensor("y", (1, 1))}
    dense = g.Dense(name="dense", inputs=("x", "w", "b"), output="y", rescale=rescale_of(1e-6))
    graph = g.Graph("net", tensors, (dense,), ("x",), ("y",))
    with pytest.raises(UserError, match="dense: the sum of products may leave 32 bits"):
        export_graph(graph, source_file, tmp_path / "c", options=Options())


def test_golden_vectors_may_be_given(random_graph: Callable[[int], g.Graph]) -> None:
    graph = random_graph(3)
    rows = np.zeros((3, graph.tensor(graph.inputs[0]).size), np.int8)
    vectors = golden_vectors(graph, Options(golden_inputs=rows))
    assert len(vectors) == 3 and not vectors[0][0].any()


def test_floats_at_the_borders(source_file: Path, compiler: str, tmp_path: Path) -> None:
    tensors = {
        "x": g.Tensor("x", (1, 4), "int8", (0.5,), 3),
        "y": g.Tensor("y", (1, 4), "int8", (0.25,), -1),
    }
    table = g.Lookup(name="same", inputs=("x",), output="y", function="same", table=tuple(range(-128, 128)))
    graph = g.Graph("net", tensors, (table,), ("x",), ("y",))
    folder = export_graph(graph, source_file, tmp_path / "c", options=Options(target="host")).folder
    (folder / "floats.c").write_text(
        '#include <stdio.h>\n#include "model_float.h"\n'
        "int main(void) {\n"
        "    static uint8_t arena[MODEL_ARENA_BYTES];\n"
        "    const float in[4] = {0.0f, 1.0f, -1.26f, 1e9f};\n"
        "    float out[4];\n"
        "    model_set_input(arena, 0, in);\n"
        "    model_run(arena);\n"
        "    model_get_output(arena, 0, out);\n"
        '    printf("%g %g %g %g", out[0], out[1], out[2], out[3]);\n'
        "    return 0;\n"
        "}\n"
    )
    run(compiler, *WARNINGS, "-I.", "-o", "floats", "model.c", "model_weights.c", "floats.c", cwd=folder)
    # integers 3, 5, 0 (0.48 rounds to 0) and 127, read as 0.25 * (integer + 1)
    assert run("./floats", cwd=folder) == "1 1.5 0.25 32"


def test_the_memory_plan_is_drawn(random_graph: Callable[[int], g.Graph], source_file: Path, tmp_path: Path) -> None:
    artifact = export_graph(random_graph(3), source_file, tmp_path / "c", options=Options(target="host"))
    root = ElementTree.parse(artifact.folder / "memory_plan.svg").getroot()
    boxes = [box for box in root.iter("{http://www.w3.org/2000/svg}rect") if len(box)]
    assert len(boxes) == len(artifact.manifest["buffers"])
    top = min(float(box.attrib["y"]) for box in boxes)
    assert top == pytest.approx(30, abs=0.1), "the highest buffer ends where the arena ends"


def test_views_hold_what_slices_would(source_file: Path, host_runner: Any, tmp_path: Path) -> None:
    tensors = {name: g.Tensor(name, (1, 6, 8)) for name in ("x", "t")}
    tensors |= {name: g.Tensor(name, (1, 3, 8)) for name in ("a", "b", "y")}
    ops = (
        g.Lookup(name="flip", inputs=("x",), output="t", function="flip", table=tuple(range(127, -129, -1))),
        g.Slice(name="a", inputs=("t",), output="a", start=(0, 1, 0), step=(1, 1, 1)),
        g.Slice(name="b", inputs=("t",), output="b", start=(0, 3, 0), step=(1, 1, 1)),
        g.Arithmetic(name="product", inputs=("a", "b"), output="y", kind="mul", output_rescale=rescale_of(0.01)),
    )
    graph = g.Graph("views", tensors, ops, ("x",), ("y", "a"))
    artifact = export_graph(graph, source_file, tmp_path / "c", options=Options(target="host"))
    rows = np.random.default_rng(0).integers(-128, 128, (5, 48)).astype(np.int8)
    expected = np.stack([reference(graph, row) for row in rows])
    np.testing.assert_array_equal(host_runner(artifact)(rows), expected)
    np.testing.assert_array_equal(expected[:, 24:], -1 - rows[:, 8:32].astype(int))


HARNESS = """
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
void th_load_tensor(void);
void th_infer(void);
void th_results(void);
void th_printf(const char *format, ...);
size_t ee_get_buffer(uint8_t *buffer, size_t max_len);
static const uint8_t pixels[4] = {0, 128, 200, 255};
size_t ee_get_buffer(uint8_t *buffer, size_t max_len) {
    memcpy(buffer, pixels, max_len);
    return max_len;
}
void th_printf(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
}
int main(void) {
    th_load_tensor();
    for (int i = 0; i < 3; i++) th_infer();
    th_results();
    return 0;
}
"""


def test_the_mlperf_tiny_functions(source_file: Path, compiler: str, tmp_path: Path) -> None:
    tensors = {name: g.Tensor(name, (1, 4), "int8", (0.5,), 0) for name in "xy"}
    table = g.Lookup(name="flip", inputs=("x",), output="y", function="flip", table=tuple(range(127, -129, -1)))
    graph = g.Graph("net", tensors, (table,), ("x",), ("y",))
    folder = export_graph(graph, source_file, tmp_path / "c", options=Options(target="host")).folder
    (folder / "harness.c").write_text(HARNESS)
    sources = ["model.c", "model_weights.c", "example/mlperf_tiny.c", "harness.c"]
    run(compiler, *WARNINGS, "-DMLPERF_INPUT=1", "-I.", "-o", "harness", *sources, cwd=folder)
    # pixels less 128: -128, 0, 72, 127; flipped: 127, -1, -73, -128; the input is the same in every repetition
    assert run("./harness", cwd=folder).strip() == "m-results-[63.500,-0.500,-36.500,-64.000]"
