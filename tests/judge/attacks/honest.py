"""Section E: honest notebooks that other graders have punished. Each keeps all its points."""

RIGHT = "exp = np.exp(x - x.max(axis=-1, keepdims=True))\n    return exp / exp.sum(axis=-1, keepdims=True)"
SOFTMAX = f"def softmax(x):\n    {RIGHT}"
SYMMETRY = """
def symmetry_test(attend, rng):
    for nq, nk in ((4, 6), (5, 5), (7, 3)):
        q, k, v = rng.standard_normal((nq, 3)), rng.standard_normal((nk, 3)), rng.standard_normal((nk, 5))
        out, order = attend(q, k, v), np.roll(rng.permutation(nk), 1)
        if not np.allclose(attend(q, k[order], v[order]), out, atol=1e-4): return False
        if not np.allclose(attend(q, k[::-1], v[::-1]), out, atol=1e-4): return False
        other = q.copy()
        other[1:] = 3 * rng.standard_normal((nq - 1, 3))
        if not np.allclose(attend(other, k, v)[0], out[0], atol=1e-4): return False
        if not np.allclose(attend(other[::-1], k, v)[-1], out[0], atol=1e-4): return False
    return True
"""


def honest(line: str = "", **cells: str) -> dict[str, str]:
    """Right answers, with a line of its own in softmax and cells of its own."""
    softmax = f"def softmax(x):\n    {line}\n    {RIGHT}" if line else SOFTMAX
    return {"softmax": softmax, "symmetry_test": SYMMETRY} | cells


HONEST = {
    "nothing special": honest(),
    "a warning in every call": honest("import warnings; warnings.warn('careful')"),
    "a division by zero that NumPy warns of": honest("np.float64(1) / np.zeros(2)"),
    "lines on stderr": honest("import sys; print('hm', file=sys.stderr)"),
    "logging": honest("import logging; logging.basicConfig(); logging.warning('called')"),
    "a flood of output": honest("print('x' * 200_000)", after="for _ in range(100): print('y' * 100_000)"),
    "a thread that goes on": honest(after="import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()"),
    "threads in the answer": honest("import threading; t = threading.Thread(target=lambda: None); t.start(); t.join()"),
    "a plot": honest(after="import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"),
    "timing magics": honest(after="%timeit -n 2 -r 1 softmax(np.ones((2, 2)))\n%time softmax(np.ones((2, 2)))"),
    "a cell that is timed": honest(after="%%time\ny = softmax(np.ones((2, 2)))"),
    "a script made of a notebook, pasted back": honest("from IPython import get_ipython; get_ipython().run_line_magic('matplotlib', 'inline')",
        before="from IPython import get_ipython\nimport matplotlib.pyplot as plt\nplt.ion()\nplt.plot([1, 2, 3])"),
    "a shell line": honest(after="!pip install einops\n%matplotlib inline\nfiles = !ls"),
    "float32": {"softmax": SOFTMAX.replace("x - x.max", "x.astype(np.float32) - x.astype(np.float32).max"), "symmetry_test": SYMMETRY},
    "arrays handed over by name": honest(symmetry_test=SYMMETRY.replace("attend(q, k, v)", "attend(v=v, k=k, q=q)")),
    "slow but right": honest("sum(range(10**6))"),
    "one row after the other": {"symmetry_test": SYMMETRY, "softmax": """
def softmax(x):
    if x.ndim > 1: return np.stack([softmax(row) for row in x])
    exp = np.exp(x - x.max())
    return exp / exp.sum()
"""},
    "a cell that fails": honest(after="1 / 0"),
    "a cell that asks for input": honest(after="input('your name? ')"),
    "a file of its own": honest("open('log.txt', 'a').write('called')", after="print(open('log.txt').read())"),
    "another process": honest(after="import subprocess\nprint(subprocess.run(['echo', 'hello'], capture_output=True, text=True).stdout)"),
    "exit() at the end": honest(after="exit()"),
}  # fmt: skip
