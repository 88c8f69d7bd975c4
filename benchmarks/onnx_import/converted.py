"""What converters make of files of the zoo: dynamic integers, Q/DQ pairs, float16, blocks fused by onnxruntime.

python benchmarks/onnx_import/converted.py ZOO FOLDER
python benchmarks/onnx_import/files.py FOLDER --name zoo --keep
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization

TEXT = (
    "transformers_BertForSequenceClassification.script14-free",
    "transformers_GPT2LMHeadModel.script13-free",
    "transformers_DistilBertForSequenceClassification.script11-free",
    "transformers_T5EncoderModel.script13-free",
    "transformers_RobertaForTokenClassification.script12-free",
    "transformers_LlamaForCausalLM.script14-free",
)
IMAGES = (
    "torchvision_mobilenet_v2.script11-free",
    "timm_levit_128s.script14-free",
    "torchvision_efficientnet_b0.script13-free",
    "timm_mobilevit_xxs.script14-free",
    "timm_repvgg_a0.script13-free",
    "torchvision_mnasnet0_5.script10",
)
HALF = (TEXT[0], IMAGES[0])
EXTENDED = (TEXT[0], *IMAGES[:3], "torchvision_swin_t.script16", "timm_ghostnet_050.script12-free",
            "timm_deit_tiny_patch16_224.dynamo20-free", "timm_gmlp_s16_224.script13")  # fmt: skip
KINDS = {"GPT2LMHeadModel": "gpt2", "T5EncoderModel": "t5", "LlamaForCausalLM": "gpt2"}
MODE = onnxruntime.GraphOptimizationLevel


def dynamic(source: Path, target: Path) -> None:
    """Weights as integers, activations rounded as they come."""
    quantization.quantize_dynamic(source, target)


def static(source: Path, target: Path) -> None:
    """Q/DQ pairs, calibrated with four batches of random numbers."""
    prepared = target.with_suffix(".prepared")
    quantization.shape_inference.quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(prepared, target, Random(prepared), per_channel=True)
    prepared.unlink()


class Random(quantization.CalibrationDataReader):
    """Normal numbers of the shapes a file declares."""

    def __init__(self, path: Path) -> None:
        draw = np.random.default_rng(0)
        declared = {v.name: v.type.tensor_type.shape.dim for v in onnx.load(path).graph.input}
        shapes = {name: [d.dim_value or 1 for d in dims] for name, dims in declared.items()}
        self.left = iter([{n: draw.normal(size=s).astype(np.float32) for n, s in shapes.items()} for _ in range(4)])

    def get_next(self) -> Any:
        return next(self.left, None)


def half(source: Path, target: Path) -> None:
    """Everything in 16 bits."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source)), target)


def fused(source: Path, target: Path) -> None:
    """Blocks of transformers, found by onnxruntime's script."""
    from onnxruntime.transformers import optimizer

    kind = next((k for name, k in KINDS.items() if name in source.name), "bert")
    optimizer.optimize_model(str(source), model_type=kind, num_heads=4, hidden_size=32).save_model_to_file(str(target))


def extended(source: Path, target: Path) -> None:
    """What onnxruntime saves after the optimizations that hold on every processor."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.optimized_model_filepath = MODE.ORT_ENABLE_EXTENDED, str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


CONVERSIONS: dict[str, tuple[Callable[[Path, Path], None], tuple[str, ...]]] = {
    "dynamic": (dynamic, (*TEXT, *IMAGES[:3])),
    "qdq": (static, IMAGES[1:5]),  # scales per channel need opset 13
    "half": (half, HALF),
    "fused": (fused, TEXT),
    "extended": (extended, EXTENDED),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path, help="what zoo.py has written")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    asked.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for kind, (convert, names) in CONVERSIONS.items():
        for name in names:
            try:
                convert(asked.zoo / f"{name}.onnx", asked.folder / f"{kind}_{name}.onnx")
            except Exception as error:  # a converter that does not take the file
                failed += 1
                print(kind, name, type(error).__name__, str(error).partition("\n")[0][:200], file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
