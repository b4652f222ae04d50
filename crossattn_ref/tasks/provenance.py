"""Where a model was trained: what its file says beside how."""

import platform
from pathlib import Path

import torch


def trained_on(device: str) -> dict[str, str | int]:
    """Name the processor that trained, its threads where it is a CPU, and the releases of torch and Python."""
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    if torch.device(device).type == "cuda":
        return {"trained_on": torch.cuda.get_device_name(device), **versions}
    return {"trained_on": _cpu(), "threads": torch.get_num_threads(), **versions}


def _cpu():
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
