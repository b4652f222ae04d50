"""The Triton kernels compiled for an H200 (sm_90), which needs no GPU: what the machine code does and takes."""

import re
import subprocess
from pathlib import Path

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from crossattn_ref.attention.fused import backward, forward, tiles

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SHARED = 227 * 1024  # bytes of shared memory that a program may take on sm_90
KERNELS = {
    "forward": (forward.read_kernel, tiles.FORWARD),
    "to queries": (backward.to_queries_kernel, tiles.TO_QUERIES),
    "to keys": (backward.to_keys_kernel, tiles.TO_KEYS),
}
GRADIENTS_AND_ANSWERS = ("out_ptr", "grad_q_ptr", "grad_k_ptr", "grad_v_ptr")
NAMES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}


def build(kernel, tile, dtype, width, *, causal=0, groups=1, parts=False, lengths=True):
    """Compile a kernel as a launch with lengths would -> the compiled kernel and its machine code."""
    constants = {"GROUPS": groups, "CAUSAL": causal, "DK": width, "DV": width, "UNIT": 16 // dtype.itemsize}
    constants |= {} if lengths else {"ends_ptr": None}
    constants |= {"BLOCK_Q": tile.queries, "BLOCK_K": tile.keys, "BLOCK_DK": width, "BLOCK_DV": width}
    special = {"scale": "fp32", "ends_ptr": "*i32"} | dict.fromkeys(("logs_ptr", "inner_ptr"), "*fp32")
    special |= dict.fromkeys(GRADIENTS_AND_ANSWERS, "*fp32" if parts else NAMES[dtype]) | dict.fromkeys(
        constants, "constexpr"
    )
    kinds = {"ptr": NAMES[dtype], "stride": "i64"}
    signature = {p.name: special.get(p.name) or kind_of(p.name, kinds) for p in kernel.params}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return compiled, compiled.asm["cubin"]


def kind_of(name, kinds):
    return next((kind for word, kind in kinds.items() if word in name.split("_")), "i32")


@pytest.fixture
def inspect(tmp_path):
    """Return a function from machine code to (registers, bytes of stack, how often each instruction occurs)."""

    def look(cubin):
        file = tmp_path / "kernel.cubin"
        file.write_bytes(cubin)
        usage, code = (
            subprocess.run([TOOLS / "cuobjdump", option, file], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "-sass")
        )
        registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
        words = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9.]+)", code, re.MULTILINE)
        return (
            registers,
            stack,
            {word: sum(w.startswith(word) for w in words) for word in ("HGMMA", "HMMA", "STL", "LDGSTS")},
        )

    return look


CASES = [(name, key) for name, (_, table) in KERNELS.items() for key in table]


@pytest.mark.parametrize(("name", "key"), CASES)
def test_a_tile_fits_its_memory_spills_nothing_and_uses_the_matrix_units(name, key, inspect):
    (kernel, table), (_, size, width) = KERNELS[name], key
    tile, dtype = table[key], torch.float32 if size == 4 else torch.bfloat16
    compiled, cubin = build(kernel, tile, dtype, width)
    _, stack, count = inspect(cubin)
    assert tile.per_sm * compiled.metadata.shared <= SHARED
    assert stack == count["STL"] == 0
    if size == 2:
        taken = tile.keys if name == "to keys" else tile.queries
        assert count["HGMMA" if taken >= 64 else "HMMA"] > 0  # those of Hopper take 64 rows or more
        assert count["LDGSTS"] > 0  # loads go to shared memory, ahead of their use


@pytest.mark.parametrize("name", KERNELS)
def test_masks_of_every_kind_grouped_heads_and_parts_spill_nothing_either(name, inspect):
    kernel, table = KERNELS[name]
    key = next(key for key in reversed(table) if key[1:] == (2, 128))
    for more in ({"causal": 2, "groups": 4}, {"parts": True, "lengths": False}):
        _, stack, count = inspect(build(kernel, table[key], torch.float16, 128, **more)[1])
        assert stack == count["STL"] == 0
        assert count["HGMMA"] > 0


def test_a_new_shape_asks_for_no_new_binary():
    """What a launch is compiled for: types, and what it knows of pointers; of sizes and strides it knows nothing."""
    for kernel in (*(kernel for kernel, _ in KERNELS.values()), forward.combine_kernel, backward.inner_kernel):
        for parameter in kernel.params:
            if parameter.is_constexpr or parameter.name.endswith("_ptr") or parameter.name == "scale":
                continue
            assert parameter.do_not_specialize, parameter.name
            assert parameter.name.startswith("stride") == (parameter.annotation_type == "i64")
