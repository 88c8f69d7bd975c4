"""Writing the C library: header, layers, weights. Text in, text out; nothing here decides anything."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from edgepress.exporters.c.calls import Argument, Call, Constant, In, Layer, Out, Ref, Scratch
from edgepress.exporters.c.graph import Array, Graph
from edgepress.exporters.c.plan import MemoryPlan

LINE = 116


@dataclass(frozen=True)
class Source:
    """Everything the writer needs.

    Attributes:
        prefix: of all public symbols; two models with different prefixes link into one firmware.
        defines: macros the kernels are built with. target: what the kernels were chosen for.
        dead: channels of the source that were taken out.
    """

    prefix: str
    graph: Graph
    layers: Sequence[Layer]
    plan: MemoryPlan
    defines: tuple[str, ...]
    target: str
    rounding: str
    dead: int = 0

    @property
    def upper(self) -> str:
        return self.prefix.upper()


def kernel_text(name: str) -> str:
    """The text of a kernel file of this package."""
    return resources.files("edgepress.exporters.c").joinpath("kernels", name).read_text()


def kernel_files(layers: Iterable[Layer]) -> list[str]:
    """The kernel headers the layers use, with the headers those include, dependencies first."""
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        for line in kernel_text(name).splitlines():
            if line.startswith('#include "'):
                visit(line.split('"')[1])
        ordered.append(name)

    for layer in layers:
        for call in layer.calls:
            visit(call.header)
    return ordered


def array_text(constant: Constant, name: str) -> str:
    """A const definition, filled to the line width."""
    rows: list[str] = []
    row: list[str] = []
    width = 0
    for value in map(str, np.asarray(constant.values).reshape(-1).tolist()):
        if width + len(value) + 1 > LINE:
            rows.append(",".join(row))
            row, width = [], 0
        row.append(value)
        width += len(value) + 1
    rows.append(",".join(row))
    body = ",\n    ".join(rows)
    return f"const {constant.ctype} {name}[{constant.values.size}] = {{\n    {body}}};\n"


def weights_source(source: Source) -> str:
    """The .c file of all constants."""
    parts = [f'#include "{source.prefix}_weights.h"\n']
    for index, layer in enumerate(source.layers):
        parts += [array_text(c, constant_name(source, index, c.name)) for c in layer.constants]
    return "\n".join(parts)


def weights_header(source: Source) -> str:
    guard = f"{source.upper}_WEIGHTS_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", ""]
    for index, layer in enumerate(source.layers):
        for constant in layer.constants:
            # Word-aligned so that kernels may load four weights at a time.
            name = constant_name(source, index, constant.name)
            lines.append(f"extern const {constant.ctype} {name}[{constant.values.size}] __attribute__((aligned(4)));")
    return "\n".join([*lines, "", "#endif", ""])


def constant_name(source: Source, index: int, name: str) -> str:
    return f"{source.prefix}_l{index:02d}_{name}"


def layer_function(source: Source, index: int) -> str:
    """Symbol of one layer's function; also the key of per-layer counts."""
    return f"{source.prefix}_layer_{index:02d}"


def header_source(source: Source) -> str:
    """The public header: sizes, quantization of inputs and outputs, and three functions."""
    p, u = source.prefix, source.upper
    lines = [f"/* {source.graph.name}: int8 inference for {source.target}, {source.rounding} rounding. */"]
    lines += [f"#ifndef {u}_H", f"#define {u}_H", "", "#include <stdint.h>", ""]
    lines += [f"#define {u}_ARENA_BYTES {source.plan.arena}", f"#define {u}_LAYERS {len(source.layers)}"]
    for kind, names in (("INPUT", source.graph.inputs), ("OUTPUT", source.graph.outputs)):
        lines.append(f"#define {u}_{kind}S {len(names)}")
        for position, name in enumerate(names):
            lines += _border_macros(source, f"{u}_{kind}{position if len(names) > 1 else ''}", name)
    lines += [
        "",
        "/* real value = SCALE * (int8 - ZERO_POINT). `arena` is yours: "
        f"{u}_ARENA_BYTES bytes, aligned to 8. {_about_state(source)},",
        " * so one arena per thread makes the model re-entrant. It also holds inputs and outputs: write the inputs",
        f" * before each {p}_run (it overwrites them), read the outputs before the next. */",
        f"int8_t *{p}_input(void *arena, int index);",
        f"const int8_t *{p}_output(const void *arena, int index);",
        f"void {p}_run(void *arena);",
        "",
        *_reset_declaration(source),
        f"/* One layer alone, 0 <= index < {u}_LAYERS: {p}_run is all of them in order. */",
        f"void {p}_run_layer(void *arena, int index);",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def keeps_state(source: Source) -> bool:
    return any(layer.kept for layer in source.layers)


def _about_state(source: Source) -> str:
    return "State goes on in it from call to call" if keeps_state(source) else "No state outlives a call"


def _reset_declaration(source: Source) -> list[str]:
    if not keeps_state(source):
        return []
    comment = "/* The next run starts anew. Call it once before the first: states go on from run to run. */"
    return [comment, f"void {source.prefix}_reset(void *arena);", ""]


def _reset_function(source: Source) -> list[str]:
    """All states to zero."""
    if not keeps_state(source):
        return []
    kept = [layer for layer in source.layers if layer.kept]
    ends = [(source.plan.offsets[f"scratch:{layer.op.name}"], layer.scratch) for layer in kept]
    clear = "    for (int32_t i = 0; i < {1}; i++) ((uint8_t *)arena)[{0} + i] = 0;"
    return [f"void {source.prefix}_reset(void *arena) {{", *(clear.format(*end) for end in ends), "}", ""]


def _border_macros(source: Source, macro: str, name: str) -> list[str]:
    tensor = source.graph.tensor(name)
    return [
        f"#define {macro}_BYTES {tensor.nbytes} /* {tensor.name}: {'x'.join(map(str, tensor.shape))} */",
        f"#define {macro}_SCALE {float_text(tensor.scale[0])}",
        f"#define {macro}_ZERO_POINT ({tensor.zero_point})",
    ]


def float_text(value: float) -> str:
    """A float literal of C."""
    text = f"{np.float32(value):.9g}"
    return text + ("f" if any(mark in text for mark in ".e") else ".0f")


def model_source(source: Source) -> str:
    """The .c file with one function per layer."""
    p = source.prefix
    chosen = [*source.defines, *_wide_sizes(source.layers)]
    defines = dict.fromkeys([*chosen, *(define for layer in source.layers for define in layer.defines)])
    lines = [f"#define {define}" for define in defines] + [""] * bool(defines)
    lines += [f'#include "{p}.h"', "", f'#include "{p}_weights.h"']
    lines += [f'#include "kernels/{name}"' for name in kernel_files(source.layers)] + [""]
    for index, layer in enumerate(source.layers):
        lines += _layer_lines(source, index, layer)
    return "\n".join(lines + _entry_points(source))


SMALL_SIZES = ("kernel", "stride", "dilation", "pad_")


def _wide_sizes(layers: Iterable[Layer]) -> list[str]:
    """What makes a model's size fields wider, if one of them needs it."""
    sizes = [
        (value, 255 if name.removeprefix("conv.").startswith(SMALL_SIZES) else 65535)
        for layer in layers
        for call in layer.calls
        for name, value in call.fields.items()
        if isinstance(value, int) and call.struct in ("ep_conv", "ep_depthwise")
    ]
    return ["EP_WIDE_SIZES 1"] * any(value > most for value, most in sizes)


def _layer_lines(source: Source, index: int, layer: Layer) -> list[str]:
    if not layer.calls:
        return []
    out = source.graph.tensor(layer.op.output)
    lines = ["", f"/* {layer.op.name} -> {'x'.join(map(str, out.shape))} ({layer.kernel}) */"]
    body = []
    for number, call in enumerate(layer.calls):
        struct = f"{layer_function(source, index)}_{number}"
        if call.fields:
            lines.append(_struct(source, index, call, struct))
        body.append("    " + _call_text(source, index, layer, call, struct))
    return [
        *lines,
        f"static __attribute__((noinline)) void {layer_function(source, index)}(uint8_t *arena) {{",
        *body,
        "}",
    ]


def _struct(source: Source, index: int, call: Call, name: str) -> str:
    fields = ", ".join(f".{field} = {_value(source, index, value)}" for field, value in call.fields.items())
    return _wrap(f"static const {call.struct} {name} = {{{fields}}};")


def _value(source: Source, index: int, value: int | Ref | tuple[int, ...]) -> str:
    if isinstance(value, Ref):
        return constant_name(source, index, value.name)
    return "{" + ", ".join(map(str, value)) + "}" if isinstance(value, tuple) else str(value)


def _call_text(source: Source, index: int, layer: Layer, call: Call, struct: str) -> str:
    arguments = [f"&{struct}"] if call.fields else []
    arguments += [_argument(source, index, layer, argument) for argument in call.arguments]
    return f"{call.function}({', '.join(arguments)});"


def _argument(source: Source, index: int, layer: Layer, argument: Argument) -> str:
    offsets = source.plan.offsets
    if isinstance(argument, In):
        return f"(const int8_t *)(arena + {offsets[argument.tensor]})"
    if isinstance(argument, Out):
        return f"(int8_t *)(arena + {offsets[argument.tensor]})"
    if isinstance(argument, Scratch):
        # Through void *: every offset is a multiple of 4 and the arena of 8.
        return f"({argument.ctype} *)(void *)(arena + {offsets['scratch:' + layer.op.name]})"
    return _value(source, index, argument)


def _wrap(text: str) -> str:
    lines, line = [], ""
    for word in text.split(" "):
        if len(line) + len(word) + 1 > LINE:
            lines.append(line)
            line = "    " + word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


def _entry_points(source: Source) -> list[str]:
    p, u = source.prefix, source.upper
    live = [i for i, layer in enumerate(source.layers) if layer.calls]
    return [
        "",
        *_pointer_function(source, f"int8_t *{p}_input(void *arena, int index)", "int8_t *", source.graph.inputs),
        "",
        *_pointer_function(
            source, f"const int8_t *{p}_output(const void *arena, int index)", "const int8_t *", source.graph.outputs
        ),
        "",
        f"void {p}_run(void *arena) {{",
        *(f"    {layer_function(source, i)}(arena);" for i in live),
        "}",
        "",
        f"void {p}_run_layer(void *arena, int index) {{",
        f"    static void (*const layers[{u}_LAYERS])(uint8_t *) = {{",
        *(f"        {layer_function(source, i) if i in live else '0'}," for i in range(len(source.layers))),
        "    };",
        "    if (layers[index]) layers[index](arena);",
        "}",
        "",
        *_reset_function(source),
    ]


def _pointer_function(source: Source, signature: str, kind: str, names: Sequence[str]) -> list[str]:
    offsets = [source.plan.offsets[name] for name in names]
    base = f"({kind.replace('int8_t', 'uint8_t')})arena"
    if len(offsets) == 1:
        return [f"{signature} {{", "    (void)index;", f"    return ({kind})({base} + {offsets[0]});", "}"]
    table = ", ".join(map(str, offsets))
    body = [f"    static const int32_t at[{len(offsets)}] = {{{table}}};", f"    return ({kind})({base} + at[index]);"]
    return [f"{signature} {{", *body, "}"]


def golden_source(prefix: str, pairs: Sequence[tuple[Array, Array]]) -> str:
    """Golden vectors: inputs and the outputs that the integer reference gives, concatenated per vector."""
    inputs, expected = (np.stack([np.asarray(pair[i]).reshape(-1) for pair in pairs]) for i in (0, 1))
    u = prefix.upper()
    lines = [
        f"/* {len(pairs)} inputs and what the integer reference makes of them. */",
        f"#ifndef {u}_GOLDEN_H",
        f"#define {u}_GOLDEN_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define {u}_GOLDEN_VECTORS {len(pairs)}",
        "static " + array_text(Constant("x", "int8_t", inputs), f"{prefix}_golden_inputs"),
        "static " + array_text(Constant("y", "int8_t", expected), f"{prefix}_golden_outputs"),
        "#endif",
        "",
    ]
    return "\n".join(lines)
