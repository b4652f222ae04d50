"""The Triton kernels compiled for an H200 (sm_90), which needs no GPU: what is asked for, what the machine code does.

Launches are those of the package: what runs them is replaced by what compiles them, or by what only notes the key
under which a binary would be looked up.
"""

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from crossattn_ref.attention.fused import backward, forward, tiles

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SHARED = 227 * 1024  # bytes of shared memory that a program may take on sm_90
TABLES = {
    "read_kernel": tiles.FORWARD,
    "to_queries_kernel": tiles.TO_QUERIES,
    "to_keys_kernel": tiles.TO_KEYS,
}
KERNELS = {*TABLES, "combine_kernel", "inner_kernel"}
ENDS = torch.tensor([70])


class H200:
    """A driver that knows what machine there would be, and nothing else."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return self  # a new one in each test, for which nothing has been compiled yet

    def get_current_stream(self, _):
        return 0


@pytest.fixture
def launched(monkeypatch):
    """Have the package compile what it launches, and run nothing -> what each kernel was compiled to, by its name."""
    found = {}

    def launch(kernel, grid):
        def compile_only(*args, **kwargs):
            found[kernel.fn.__name__] = kernel.warmup(*args, grid=grid, **kwargs)

        return compile_only

    monkeypatch.setattr(driver, "_active", H200())
    monkeypatch.setattr(triton.JITFunction, "__getitem__", launch)
    return found


@pytest.fixture
def asked(launched, monkeypatch):
    """Compile nothing either -> the kernel and the key of every binary that is asked for."""
    keys = set()
    monkeypatch.setattr(knobs.runtime, "jit_cache_hook", lambda key, fn, **_: keys.add((fn.name, key)) or True)
    return keys


def sequences(width, dtype=torch.bfloat16, *, batch=1, n_heads=1, lengths=(300, 300), groups=1):
    """Make q, k, v and a gradient of the answer, whatever they hold."""
    queries, keys = (groups * n_heads, lengths[0]), (n_heads, lengths[1])
    return [torch.empty(batch, *shape, width, dtype=dtype) for shape in (queries, keys, keys, queries)]


def launch(q, k, v, grad_out, ends=ENDS, causal=0, n_splits=1):
    """Launch all that a forward and a backward pass launch."""
    out, logs = forward.read(q, k, v, ends, causal, n_splits)
    backward.send_back(grad_out, q, k, v, out, logs, ends, causal, (n_splits, n_splits))


@pytest.fixture
def inspect(tmp_path):
    """Return a function from a compiled kernel to (bytes of stack, how often each instruction occurs)."""

    def look(compiled):
        file = tmp_path / "kernel.cubin"
        file.write_bytes(compiled.asm["cubin"])
        usage, code = (
            subprocess.run([TOOLS / "cuobjdump", option, file], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "-sass")
        )
        stack = int(re.search(r"REG:\d+ STACK:(\d+)", usage).group(1))
        words = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9.]+)", code, re.MULTILINE)
        return stack, {word: sum(w.startswith(word) for w in words) for word in ("HGMMA", "HMMA", "STL", "LDGSTS")}

    return look


def units(name, tile):
    """Tell which matrix units multiply a tile: those of Hopper take 64 rows or more."""
    return "HGMMA" if (tile.keys if name == "to_keys_kernel" else tile.queries) >= 64 else "HMMA"


CASES = [(name, key) for name, table in TABLES.items() for key in table]


@pytest.mark.parametrize(("name", "key"), CASES)
def test_a_tile_fits_its_memory_spills_nothing_and_uses_the_matrix_units(name, key, launched, inspect):
    rows, size, width = key
    dtype = torch.float32 if size == 4 else torch.bfloat16
    launch(*sequences(width, dtype, lengths=(min(rows, 300), 300)))
    tile, compiled = TABLES[name][key], launched[name]
    assert (compiled.metadata.num_warps, compiled.metadata.num_stages) == (tile.warps, tile.stages)
    stack, count = inspect(compiled)
    assert tile.per_sm * compiled.metadata.shared <= SHARED
    assert stack == count["STL"] == 0
    if size == 2:
        assert count[units(name, tile)] > 0
        assert count["LDGSTS"] > 0  # loads go to shared memory, ahead of their use


VARIANTS = {
    "grouped heads": (partial(sequences, 128, torch.float16, groups=4), {"causal": 2, "ends": ENDS.int()}),
    "parts": (partial(sequences, 128, torch.float16), {"ends": None, "n_splits": 2}),
    "a width of 80": (partial(sequences, 80), {"causal": 2, "n_splits": 2}),
    "a width of 192": (partial(sequences, 192), {"causal": 2}),
    "a width of 80, single": (partial(sequences, 80, torch.float32), {"causal": 2}),
    "a width of 192, single": (partial(sequences, 192, torch.float32), {"causal": 2, "n_splits": 2}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_masks_of_every_kind_grouped_heads_parts_and_other_widths_spill_nothing_either(variant, launched, inspect):
    make, options = VARIANTS[variant]
    q, k, v, grad_out = make()
    launch(q, k, v, grad_out, **options)
    assert launched.keys() == (KERNELS if "n_splits" in options else KERNELS - {"combine_kernel"})
    for name, compiled in launched.items():
        stack, count = inspect(compiled)
        assert stack == count["STL"] == 0, name
        if name in TABLES and q.itemsize == 2:
            tile = tiles.choose(TABLES[name], q.shape[1] * q.shape[2], q.dtype, (q.shape[3], v.shape[3]))
            assert count[units(name, tile)] > 0, name


# Which binaries are asked for

LAYOUTS = {
    "columns apart": lambda x: x.mT.contiguous().mT,
    "rows of odd length": lambda x: torch.cat([x, x[..., :1]], dim=-1)[..., :-1],
    "rows at odd places": lambda x: torch.cat([x[..., :1], x], dim=-1)[..., 1:],
    "a first number at an odd place": lambda x: x.new_empty(x.numel() + 1)[1:].view(x.shape),
    "an odd width": lambda x: x[..., :-1].contiguous(),
    "an odd step along an axis of one": lambda x: x.as_strided(x.shape, (x.stride(0) + 1, *x.stride()[1:])),
    "one for all": lambda x: x[:, :1].expand(x.shape),
}


@pytest.mark.parametrize("n_splits", [1, 2])
def test_a_new_shape_asks_for_no_new_binary(asked, n_splits):
    for step in range(30):
        batch, n_heads, lengths = 1 + step % 7, 1 + step % 3, (129 + 31 * step, 129 + 29 * (step % 17))
        tensors = sequences(16, batch=batch, n_heads=n_heads, lengths=lengths)
        launch(*tensors, torch.zeros(batch + step, dtype=torch.int64)[step:], n_splits=n_splits)
    assert len({name for name, _ in asked}) == len(asked) == (4 if n_splits == 1 else 5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_laid_in_another_way_ask_for_no_new_binary(layout, asked):
    tensors = sequences(64, n_heads=3)
    launch(*tensors)
    before = set(asked)
    launch(*map(LAYOUTS[layout], tensors))
    assert asked == before
    assert len(asked) == 4
