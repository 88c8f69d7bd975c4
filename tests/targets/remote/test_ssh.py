"""A board over ssh, played by a real OpenSSH server on loopback: what works, and each way it can fail."""

import hashlib
import json
import os
import signal
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress import targets
from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.measure.energy import measure_session_energy
from edgepress.measure.environment import describe
from edgepress.measure.latency import compare_latency
from edgepress.measure.memory import measure_cold_start
from edgepress.measure.survey import survey
from edgepress.measure.throughput import measure_throughput
from edgepress.targets.remote.channel import Channel
from edgepress.targets.remote.far_side import FarSide
from edgepress.targets.remote.place import far_side
from edgepress.targets.runtimes import open_session
from edgepress.targets.worker import wire

WEIGHT = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)
X = {"x": np.random.default_rng(1).normal(size=(2, 64)).astype(np.float32)}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return matmul(tmp_path / "matmul.onnx", WEIGHT)


def matmul(path: Path, weight: np.ndarray) -> Path:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def sines(path: Path, count: int) -> Path:
    """A small file that takes its time: `count` sines one after another."""
    names = ["x", *(f"t{i}" for i in range(1, count)), "y"]
    nodes = [helper.make_node("Sin", [a], [b]) for a, b in pairwise(names)]
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])
    graph = helper.make_graph(nodes, "g", [shape], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def impatient(target: targets.Target) -> FarSide:
    place = far_side(target)
    place._waits_s = (0.05, 0.1)
    return place


# -- success ---------------------------------------------------------------------------------------------------------


def test_the_far_side_answers_like_this_one(server, artifact, eventually):
    here = open_session(artifact, targets.load("local-cpu"))
    there = open_session(artifact, server.target())
    np.testing.assert_array_equal(there.run(X)[0], here.run(X)[0])
    assert (there.input_names, there.output_names) == (here.input_names, here.output_names)
    assert "onnxruntime" in there.describe() and os.uname().machine in there.describe()
    there.close()
    assert eventually(lambda: not server.workers())


def test_inputs_are_checked_before_they_travel(server, artifact):
    session = open_session(artifact, server.target())
    with pytest.raises(UserError, match="does not fit"):
        session.run({"x": np.zeros((2, 3), np.float32)})
    session.close()


def test_latency_is_taken_in_turns_over_there(server, artifact, tmp_path):
    larger = matmul(tmp_path / "larger.onnx", np.zeros((64, 12_000), np.float32))
    sessions = {"small": open_session(artifact, server.target()), "large": open_session(larger, server.target())}
    latencies = compare_latency(sessions, X, runs=120, warmup=5)
    small, large = latencies["small"][0], latencies["large"][0]
    assert small.n == len(small.samples) == len(large.samples) == 120
    assert small.value < large.value
    # one round trip through ssh alone takes longer than this multiplication
    start = time.perf_counter()
    sessions["small"].run(X)
    assert small.value < 1e3 * (time.perf_counter() - start)
    for session in sessions.values():
        session.close()


def test_the_environment_is_that_of_the_far_side(server, artifact):
    """Told by the far side's own interpreter, which here is on the same machine: the same class."""
    result = survey({"a": artifact}, server.target(), runs=5, cold_starts=0, energy=False)
    here = describe()
    assert result.environment.machine_class == here.machine_class
    assert result.environment.python == here.python
    assert [m.target for m in result["a"] if m.name == "latency_ms"] == ["board"]


def test_throughput_is_measured_over_there(server, artifact):
    session = open_session(artifact, server.target())
    start = time.perf_counter()
    session.run(X)
    round_trip = time.perf_counter() - start
    session.close()
    opener = partial(open_session, artifact, server.target())
    rate = measure_throughput(opener, X, callers=2, seconds=0.2, repeats=2)
    assert rate.value > 2 / round_trip  # X holds two samples: more than one run per round trip
    assert "2 caller(s)" in rate.method


def test_cold_starts_are_measured_over_there(server, artifact, eventually):
    found = {m.name: m for m in measure_cold_start(artifact, server.target(), X, repeats=2)}
    assert found["load_ms"].n == 2 and found["load_ms"].value > 0
    assert found["peak_rss_bytes"].value > found["runtime_memory_bytes"].value > 0
    assert eventually(lambda: not server.workers())


def test_an_artifact_that_is_there_is_not_sent_again(server, artifact):
    open_session(artifact, server.target()).close()
    stored = [p for p in (server.folder / "far").rglob("matmul.onnx") if p.read_bytes() == artifact.read_bytes()]
    before = stored[0].stat().st_mtime_ns
    open_session(artifact, server.target()).close()
    assert [p.stat().st_mtime_ns for p in stored] == [before]


def test_external_data_travels_along(server, tmp_path):
    path = matmul(tmp_path / "external.onnx", WEIGHT)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="external.onnx.data", size_threshold=0)
    assert (tmp_path / "external.onnx.data").exists()
    session = open_session(path, server.target())
    np.testing.assert_allclose(session.run(X)[0], X["x"] @ WEIGHT, rtol=1e-4, atol=1e-5)
    session.close()


@pytest.mark.slow
def test_energy_is_read_over_there(server, artifact, monkeypatch):
    """The far side's vcgencmd is a script on its PATH: 5 W, idle or not, so the runs cannot be told from idle."""
    program = server.folder / "bin" / "vcgencmd"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\necho ' VDD_CORE_A current(7)=5.0A'; echo ' VDD_CORE_V volt(15)=1.0V'\n")
    program.chmod(0o755)
    python = f"env PATH={program.parent}:$PATH {server.target().remote.python}"
    target = server.target(python=python).model_copy(update={"meters": ("rapl", "pi5-pmic")})
    session = open_session(artifact, target)
    energy, total, idle = measure_session_energy(session, X, target, repeats=3, cooldown_s=0.0, window_s=2.0)
    session.close()
    assert idle.value == pytest.approx(5.0, rel=0.05)
    assert total.value > 0 and "Raspberry Pi 5 PMIC" in total.method
    assert energy.value is None and "not told apart from idle" in energy.reason


def test_a_board_without_a_meter(server, artifact):
    session = open_session(artifact, server.target())
    energy = measure_session_energy(session, X, server.target())[0]
    session.close()
    assert energy.value is None and "has no energy meter" in energy.reason


# -- failures --------------------------------------------------------------------------------------------------------


def test_wrong_host_key(server, artifact, eventually):
    target = server.target(config=str(server.folder / "wrong_client_config"))
    start = time.perf_counter()
    with pytest.raises(ToolError, match="no connection to board") as caught:
        open_session(artifact, target)
    assert "Host key verification failed" in caught.value.found
    assert "ssh-keygen -R board" in caught.value.fix
    assert time.perf_counter() - start < 10  # never tried again
    assert not server.workers()


def test_a_key_that_nobody_knows(server, artifact):
    config = server.folder / "stranger_config"
    config.write_text(server.config.read_text().replace("client_key", "other_host_key"))
    with pytest.raises(ToolError, match="no connection to board") as caught:
        open_session(artifact, server.target(config=str(config)))
    assert "Permission denied" in caught.value.found
    assert "ssh-copy-id board" in caught.value.fix


def test_a_host_that_does_not_exist(server, artifact):
    with pytest.raises(ToolError, match=r"no connection to nowhere\.invalid") as caught:
        open_session(artifact, server.target(host="nowhere.invalid"))
    assert "remote.host" in caught.value.fix


def test_a_port_that_nobody_listens_on_is_tried_again_before_giving_up(server, artifact):
    config = server.folder / "closed_config"
    config.write_text(server.config.read_text().replace(f"Port {server.port}", "Port 1"))
    place = impatient(server.target(config=str(config)))
    with pytest.raises(ToolError) as caught:
        place.hello()
    assert "Connection refused" in caught.value.found
    assert place.reconnections == 2


def test_no_host_is_named(artifact, server):
    with pytest.raises(UserError, match="names no host"):
        open_session(artifact, server.target(host=""))


def test_a_host_that_looks_like_an_option(artifact, server):
    with pytest.raises(UserError, match="names no host"):
        open_session(artifact, server.target(host="-oProxyCommand=touch /tmp/never"))


def test_missing_python_on_the_far_side(server, artifact):
    with pytest.raises(MissingTool, match="needs Python on board") as caught:
        open_session(artifact, server.target(python="python-that-is-not-there"))
    assert "set remote.python" in caught.value.fix


def test_python_without_numpy_on_the_far_side(server, artifact):
    """-S leaves site-packages out."""
    with pytest.raises(MissingTool) as caught:
        open_session(artifact, server.target(python=f"{server.target().remote.python} -S"))
    assert "numpy" in str(caught.value) and "pip install" in caught.value.fix


def test_an_artifact_that_the_far_side_refuses(server, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ToolError, match="refuses"):
        open_session(path, server.target())


def test_a_full_disk_on_the_far_side(server, artifact, tmp_path):
    """The place where the artifact would be written is /dev/full: every write there fails as on a full disk."""
    place = far_side(server.target(directory=str(tmp_path / "far")))
    place.hello()
    folder = tmp_path / "far" / hashlib.sha256(artifact.read_bytes()).hexdigest()[:32]
    folder.mkdir()
    (folder / "matmul.onnx.part").symlink_to("/dev/full")
    with pytest.raises(ToolError, match="the disk is full") as caught:
        place.open("a", artifact)
    assert caught.value.found == "No space left on device"
    assert "remote.directory" in caught.value.fix
    place.close()


def test_a_directory_that_cannot_be_made(server, artifact):
    with pytest.raises(ToolError, match="the worker cannot be written"):
        open_session(artifact, server.target(directory="/dev/null/edgepress"))


# -- lost connections ------------------------------------------------------------------------------------------------


def cut(server) -> None:
    """Kill the server's side of every connection, as a board that loses power would."""
    for pid in server.sessions():
        for child in (*grandchildren(pid), pid):
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue


def grandchildren(pid: int) -> list[int]:
    """The unprivileged half of an sshd session, but not the worker behind it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (path / "status").read_text(), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if f"PPid:\t{pid}\n" in status and command.startswith(b"sshd"):
            found.append(int(path.name))
    return found


def test_a_session_goes_on_after_a_lost_connection(server, artifact, eventually):
    session = open_session(artifact, server.target())
    expected = session.run(X)[0]
    workers = server.workers()
    cut(server)
    assert eventually(lambda: not set(workers) & set(server.workers()))  # nothing stays behind on the board
    np.testing.assert_array_equal(session.run(X)[0], expected)
    assert session.far_side.reconnections == 1
    session.close()


def test_timing_goes_on_after_a_connection_is_lost_in_the_middle(server, tmp_path):
    session = open_session(sines(tmp_path / "slow.onnx", 6), server.target())
    timer = threading.Timer(0.4, cut, [server])
    timer.start()
    latencies = compare_latency({"slow": session}, {"x": np.ones((2000, 64), np.float32)}, runs=1500, warmup=5)
    timer.join()
    assert latencies["slow"][0].n == 1500
    assert session.far_side.reconnections == 1
    assert any("connection broke 1 time" in warning for warning in latencies.warnings)
    session.close()


def test_a_copy_goes_on_where_it_stopped(server, tmp_path, monkeypatch):
    """The connection breaks after the first of three pieces: the second connection sends the other two only."""
    monkeypatch.setattr("edgepress.targets.remote.far_side.CHUNK", 40_000)
    artifact = matmul(tmp_path / "big.onnx", np.random.default_rng(2).normal(size=(64, 400)).astype(np.float32))
    place = impatient(server.target(directory=str(tmp_path / "far")))
    sent, ask = [], Channel.ask

    def spy(channel, op, **arguments):
        result = ask(channel, op, **arguments)
        if op == "append":
            sent.append(arguments["at"])
            if len(sent) == 1:
                cut(server)
        return result

    monkeypatch.setattr(Channel, "ask", spy)
    place.open("big", artifact)
    assert sent == [0, 40_000, 80_000]
    assert place.reconnections == 1
    place.close()


def test_a_worker_that_crashes_is_not_tried_again(server, artifact):
    """A runtime that aborts would abort again: the error says how it ended."""
    session = open_session(artifact, server.target())
    for pid in server.workers():
        os.kill(pid, signal.SIGABRT)
    with pytest.raises(ToolError, match="the worker on board ended"):
        session.run(X)


def test_a_worker_ends_in_the_middle_of_work_when_the_line_is_cut(server, tmp_path, eventually):
    """It does not finish its work first: a run of many minutes must not stay behind on a board."""
    assert eventually(lambda: not server.workers())
    place = impatient(server.target())
    place.open("slow", sines(tmp_path / "slow.onnx", 20))
    (worker,) = server.workers()
    feed = wire.pack_all({"x": np.ones((2000, 64), np.float32)})
    request = {"op": "turns", "feeds": {"slow": feed}, "runs": 1_000_000, "warmup": 1, "seed": 0}
    place._channel._send(json.dumps(request).encode() + b"\n")
    time.sleep(0.3)
    assert worker in server.workers()
    cut(server)
    assert eventually(lambda: worker not in server.workers())
    place.close()
