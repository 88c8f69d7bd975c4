"""Engines, built by the Python module or by trtexec. Written against the documentation of TensorRT 10 and 11; see
docs/targets.md for what has been executed."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.exporters.tensorrt import trtexec
from edgepress.exporters.tensorrt.lint import Finding, lint
from edgepress.exporters.tensorrt.options import EngineOptions
from edgepress.targets.runtimes.tensorrt_session import Log, import_runtime

FATAL = ("rejected", "missing profile")


@dataclass(frozen=True)
class TensorrtArtifact:
    """A built engine.

    Attributes:
        layers: what the engine inspector says of each layer. findings: what the lint found that did not prevent it.
    """

    path: Path
    digest: str
    layers: tuple[object, ...]
    findings: tuple[Finding, ...]


def build_engine(source: Path, path: Path, options: EngineOptions | None = None) -> TensorrtArtifact:
    """Build an engine for this machine's GPU from an ONNX file.

    Raises:
        UserError: TensorRT would reject the graph, or an input lacks a profile.
        MissingTool: neither the Python module nor trtexec is here.
        ToolError: the build fails.
    """
    options = options or EngineOptions()
    findings = lint(source, options.profiles)
    refuse(source, findings)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        trt = import_runtime()
    except MissingTool:
        layers = _with_trtexec(source, path, options)
    else:
        layers = _with_module(trt, source, path, options)
    return TensorrtArtifact(path, hashlib.sha256(path.read_bytes()).hexdigest(), tuple(layers), findings)


def refuse(source: Path, findings: Sequence[Finding]) -> None:
    """Raise UserError for the first finding that prevents an engine; says how many there are."""
    fatal = [finding for finding in findings if finding.kind in FATAL]
    if fatal:
        first = fatal[0]
        more = f" (and {len(fatal) - 1} more)" if len(fatal) > 1 else ""
        raise UserError(
            f"TensorRT would reject {source.name}: {first.node}{more}",
            found=first.found,
            expected=first.needed,
            fix="quantize for the capability table `tensorrt`" if first.kind == "rejected" else "give profiles",
        )


def _with_trtexec(source: Path, path: Path, options: EngineOptions) -> Sequence[object]:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        engine, layers = Path(folder) / path.name, Path(folder) / "layers.json"
        trtexec.run(trtexec.command(source, engine, options, layers))
        engine.replace(path)
        return _layers(layers.read_text()) if layers.exists() else ()


def _with_module(trt: Any, source: Path, path: Path, options: EngineOptions) -> Sequence[object]:
    log = Log.of(trt)
    builder = trt.Builder(log)
    network = _parsed(trt, builder, log, source)
    config = _config(trt, builder, options)
    cache = _timing_cache(config, options)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ToolError("TensorRT could not build the engine", found=log.last_error())
    content = bytes(plan)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
    if options.timing_cache is not None:
        options.timing_cache.write_bytes(bytes(cache.serialize()))
    return _inspected(trt, log, content)


def _parsed(trt: Any, builder: Any, log: Log, source: Path) -> Any:
    """The network. Types are the graph's own: the flag is needed in 10 and accepted, without effect, in 11."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(1 << int(flag) if flag is not None else 0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(source)):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise ToolError(f"TensorRT cannot parse {source}", found=errors[0] if errors else log.last_error())
    return network


def _config(trt: Any, builder: Any, options: EngineOptions) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for wanted, flag in ((options.version_compatible, "VERSION_COMPATIBLE"), (options.refit, "REFIT")):
        if wanted:
            config.set_flag(getattr(trt.BuilderFlag, flag))
    levels = {"same-compute-capability": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}
    if options.hardware in levels:
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, levels[options.hardware])
    if options.profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in options.profiles.items():
            profile.set_shape(name, shapes.least, shapes.best, shapes.most)
        config.add_optimization_profile(profile)
    return config


def _timing_cache(config: Any, options: EngineOptions) -> Any:
    file = options.timing_cache
    cache = config.create_timing_cache(file.read_bytes() if file is not None and file.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _inspected(trt: Any, log: Log, content: bytes) -> Sequence[object]:
    runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = True  # we built it ourselves; version-compatible engines carry code
    inspector = runtime.deserialize_cuda_engine(content).create_engine_inspector()
    return _layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _layers(text: str) -> Sequence[object]:
    return list(json.loads(text).get("Layers", ()))
