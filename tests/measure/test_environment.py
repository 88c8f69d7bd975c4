from edgepress.measure import environment
from edgepress.measure.environment import machine_class

RYZEN = """processor : 0
cpu family : 25
model : 17
model name : AMD EPYC
stepping : 1
flags : fpu avx2 avx512f avx512_vnni

processor : 1
model name : AMD EPYC
flags : fpu avx2 avx512f avx512_vnni
"""
PI = """processor : 0
Features : fp asimd asimddp
CPU implementer : 0x41
CPU part : 0xd0b
"""


def test_this_machine_is_described():
    here = environment.describe(["noisy"])
    assert here.cores >= 1 and here.memory_bytes > 2**20
    assert here.tools["numpy"]
    assert "noisy" in here.warnings
    assert here.machine_class == environment.describe().machine_class


def test_a_machine_class_tells_machines_apart():
    base = machine_class("A", ("avx2",), 4, 8 * 2**30)
    assert base == machine_class("A", ("avx2",), 4, 8 * 2**30 + 12345)
    others = [("B", ("avx2",), 4, 8), ("A", (), 4, 8), ("A", ("avx2",), 2, 8), ("A", ("avx2",), 4, 4)]
    assert base not in {machine_class(cpu, features, cores, gib * 2**30) for cpu, features, cores, gib in others}


def test_cpu_of_x86_and_arm(tmp_path):
    (tmp_path / "x86").write_text(RYZEN)
    (tmp_path / "arm").write_text(PI)
    assert environment._cpu(tmp_path / "x86") == ("AMD EPYC (25 17 1)", ("avx2", "avx512f", "avx512_vnni"))
    assert environment._cpu(tmp_path / "arm") == ("0x41 0xd0b", ("asimddp",))
    assert environment._cpu(tmp_path / "none")[1] == ()


def test_graphics_cards_as_the_driver_lists_them(tmp_path):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0/information").write_text("Model: \t\t NVIDIA H200\nIRQ:   33\n")
    assert environment._accelerators(tmp_path) == ("NVIDIA H200",)


def test_a_governor_that_is_not_performance_is_a_standing_warning(tmp_path):
    for core, governor in enumerate(("performance", "schedutil")):
        folder = tmp_path / f"cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")
    (warning,) = environment._standing_warnings(tmp_path)
    assert "schedutil" in warning
    assert environment._standing_warnings(tmp_path / "none") == ()
