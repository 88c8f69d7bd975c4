"""Several processes give what one gives with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("processes.py")


def run(command: list[str], tmp_path: Path) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    run([str(SCRIPT), str(tmp_path / "one"), "20"], tmp_path)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run([*torchrun, str(SCRIPT), str(tmp_path / "two"), "20", str(tmp_path / "checkpoints")], tmp_path)
    one, first, second = (load_file(tmp_path / name) for name in ("one.0", "two.0", "two.1"))
    for name, expected in one.items():
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
        torch.testing.assert_close(first[name], expected, rtol=1e-4, atol=1e-5)
    assert (tmp_path / "checkpoints" / "last.safetensors").is_file()
