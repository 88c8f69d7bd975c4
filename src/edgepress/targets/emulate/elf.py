"""What an emulator needs of a 32-bit little-endian ELF file: segments to load, symbols, section sizes."""

import struct
from dataclasses import dataclass
from pathlib import Path

from edgepress.errors import ToolError

LOAD = 1
SYMBOL_TABLE, NO_BITS = 2, 8
WRITE, ALLOCATE, EXECUTE = 1, 2, 4


@dataclass(frozen=True)
class Section:
    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class Image:
    """A linked program. segments: (load address, bytes). symbols: name -> address, thumb bit removed."""

    segments: tuple[tuple[int, bytes], ...]
    symbols: dict[str, int]
    sections: tuple[Section, ...]

    @property
    def flash_bytes(self) -> int:
        """Code, constants and initial values of variables: what has to be stored."""
        kept = (s for s in self.sections if s.flags & ALLOCATE and s.kind != NO_BITS)
        return sum(s.size for s in kept)

    @property
    def code_bytes(self) -> int:
        return sum(s.size for s in self.sections if s.flags & EXECUTE)

    @property
    def ram_bytes(self) -> int:
        """Static variables, initialised or not."""
        return sum(s.size for s in self.sections if s.flags & ALLOCATE and s.flags & WRITE)


def read(path: Path) -> Image:
    """Read an ELF file. Raises ToolError if it is something else."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x01\x01":
        raise ToolError(f"{path} is not a 32-bit little-endian ELF file", found=repr(data[:6]))
    header = struct.unpack_from("<16sHHIIIIIHHHHHH", data)
    program_at, section_at, program_count, section_count, names_index = (
        header[5],
        header[6],
        header[10],
        header[12],
        header[13],
    )
    segments = []
    for i in range(program_count):
        kind, offset, _, address, size, *_ = struct.unpack_from("<8I", data, program_at + 32 * i)
        if kind == LOAD and size:
            segments.append((address, data[offset : offset + size]))
    raw = [struct.unpack_from("<10I", data, section_at + 40 * i) for i in range(section_count)]
    names = raw[names_index][4]
    sections = tuple(Section(_text(data, names + r[0]), r[1], r[2], r[3], r[4], r[5], r[6]) for r in raw)
    return Image(tuple(segments), _symbols(data, sections), sections)


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def _symbols(data: bytes, sections: tuple[Section, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for table in sections:
        if table.kind == SYMBOL_TABLE:
            strings = sections[table.link].offset
            for at in range(table.offset, table.offset + table.size, 16):
                name, value, _, info, _, _ = struct.unpack_from("<IIIBBH", data, at)
                is_function = info & 15 == 2
                found[_text(data, strings + name)] = value & ~1 if is_function else value
    return found
