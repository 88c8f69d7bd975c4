"""Metric names as people say them."""

import re

from edgepress.gate.verdict import Verdict

TITLES = {
    "size_bytes": "Size",
    "compressed_bytes": "Size, zipped for transfer",
    "weight_bytes": "Weights",
    "flash_bytes": "Flash",
    "ram_bytes": "RAM",
    "largest_activation_bytes": "Largest activation",
    "latency_ms": "Latency",
    "load_ms": "Time to load",
    "first_inference_ms": "First inference",
    "peak_rss_bytes": "Peak memory of the process",
    "peak_memory_bytes": "Peak memory of the model",
    "runtime_memory_bytes": "Memory of the runtime",
    "allocator_bytes": "Memory of the allocator",
    "arena_bytes": "Arena",
    "throughput_per_s": "Throughput",
    "params": "Parameters",
    "macs": "Multiply-accumulates",
    "operators": "Operators",
    "accuracy": "Accuracy",
    "energy_mj": "Energy per inference",
    "energy_total_mj": "Energy per inference, idle included",
    "idle_power_w": "Idle power",
    "calibration_error": "Calibration error",
    "carbon_ug": "CO2 per inference",
    "constant_bytes": "Constants",
    "activation_plan_bytes": "Activations, planned",
    "size_float32_bytes": "of it float32 weights",
    "size_float16_bytes": "of it float16 weights",
    "size_int8_bytes": "of it int8 weights",
    "size_int4_bytes": "of it int4 weights",
    "size_int32_bytes": "of it int32 weights",
    "size_int64_bytes": "of it int64 constants",
    "size_uint8_bytes": "of it uint8 constants",
    "size_graph_bytes": "of it the graph",
    "instructions": "Instructions",
    "cycles": "Cycles, modelled",
    "stack_bytes": "Stack",
    "mismatched_bytes": "Bytes that differ from the reference",
    "modelled_cycles": "Cycles, modelled",
    "mean_iou": "Mean IoU",
    "map_50": "mAP at IoU 0.5",
    "auc": "AUC",
    "f1": "F1",
    "mse": "Mean squared error",
    "churn": "Churn (predictions that differ)",
    "worst_class_accuracy": "Worst class",
    "worst_slice_accuracy": "Worst slice",
    "parity_max_abs": "Parity, largest error",
}
ASPECTS = {"max_ratio": " against the baseline", "min_ratio": " against the baseline", "max_drop": ", drop"}


def title(metric: str, target: str = "") -> str:
    """`Latency, p99 (raspberry-pi-5)` for `latency_p99_ms`; names that are not known lose their underscores alone."""
    text = TITLES.get(metric) or _percentile(metric) or metric.replace("_", " ").capitalize()
    return f"{text} ({target})" if target else text


def budget_title(verdict: Verdict) -> str:
    """The team's own name for a budget, or what it is about."""
    if verdict.label not in (verdict.metric, f"{verdict.metric} on {verdict.target}"):
        return verdict.label
    return title(verdict.metric, verdict.target) + ASPECTS.get(verdict.kind, "")


def _percentile(metric: str) -> str:
    match = re.fullmatch(r"(\w+)_p(\d+)_(\w+)", metric)
    return f"{match[1].replace('_', ' ').capitalize()}, p{match[2]}" if match else ""
