"""Building an artifact for a core: bare for unicorn, or with startup and a runner for qemu."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.targets.emulate import elf, stack, toolchain
from edgepress.targets.emulate.cores import Core

OPTIMISE = ("-O2",)
HERE = Path(__file__).parent

BARE_SCRIPT = """ENTRY({prefix}_run)
SECTIONS {{
  . = {flash:#x};
  .text : {{ KEEP(*(.text.{prefix}_*)) *(.text*) *(.rodata*) }}
  .data : {{ *(.data*) *(.bss*) }}
  /DISCARD/ : {{ *(.ARM.exidx*) *(.ARM.extab*) *(.ARM.attributes) *(.comment) }}
}}
"""


@dataclass(frozen=True)
class Build:
    """A linked image with the compiler that made it. stack_bound: see `stack.bound`."""

    image: elf.Image
    path: Path
    compiler: str
    stack_bound: int | None


def bare(
    folder: Path,
    manifest: dict[str, Any],
    core: Core,
    work: Path,
    *,
    compiler: str = "",
    flags: tuple[str, ...] = OPTIMISE,
) -> Build:
    """The model alone: no startup, no libc. This is the image whose flash size counts."""
    chosen = toolchain.find(core, compiler)
    script = work / "bare.ld"
    script.write_text(BARE_SCRIPT.format(prefix=manifest["name"], flash=core.flash))
    out = work / "bare.elf"
    sources = [folder / name for name in manifest["sources"]]
    toolchain.link(chosen, sources, out, script=script, entry=f"{manifest['name']}_run", flags=flags)
    return Build(elf.read(out), out, chosen.version(), stack.bound(work, folder, f"{manifest['name']}_run"))


def bootable(
    folder: Path, manifest: dict[str, Any], core: Core, work: Path, vectors: int, *, flags: tuple[str, ...] = OPTIMISE
) -> Build:
    """An image that qemu boots: the artifact's own startup and linker script with our runner."""
    chosen = toolchain.find_bootable(core)
    (work / "runner_model.h").write_text(_runner_header(manifest, vectors))
    startup = next((folder / "example").glob("startup_*.c"))
    sources = [*(folder / name for name in manifest["sources"]), HERE / "runner.c", startup]
    includes = ("-I", str(work), "-I", str(folder / "example"), "-I", str(folder))
    out = work / "boot.elf"
    toolchain.link(
        chosen,
        sources,
        out,
        script=folder / "example" / "link.ld",
        entry="reset",
        flags=(*flags, *includes),
        libraries=("-lgcc",) if chosen.name == "gcc" else (),
    )
    return Build(elf.read(out), out, chosen.version(), stack.bound(work, folder, f"{manifest['name']}_run"))


def _runner_header(manifest: dict[str, Any], vectors: int) -> str:
    def table(borders: list[dict[str, Any]], key: str) -> str:
        return "{" + ", ".join(str(border[key]) for border in borders) + "}"

    name = manifest["name"]
    return "\n".join(
        [
            f'#include "{name}.h"',
            f"#define RUNNER_ARENA_BYTES {manifest['arena_bytes']}",
            f"#define RUNNER_VECTORS {vectors}",
            f"#define RUNNER_RUN {name}_run",
            f"#define RUNNER_INPUT_OFFSETS {table(manifest['inputs'], 'offset')}",
            f"#define RUNNER_INPUT_SIZES {table(manifest['inputs'], 'bytes')}",
            f"#define RUNNER_OUTPUT_OFFSETS {table(manifest['outputs'], 'offset')}",
            f"#define RUNNER_OUTPUT_SIZES {table(manifest['outputs'], 'bytes')}",
            "",
        ]
    )
