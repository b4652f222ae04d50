"""Attacks on this judge, by somebody who has read its source.

Each is shown to succeed once the one wall that is meant to stop it has been taken down (weakened.py says how).
"""

import base64
import pickle
import struct

from tests.judge.attacks.attack import Outcome, attack, before, says

SESSION = """
import gc, os, struct, time
session = next((found for found in gc.get_objects() if type(found).__name__ == "Session"), None)
channel = session and session._channel
"""

# Cases that take the place of what answers a check: channel is the one to the judge.
TAKE_OVER = """
def take_over(answer):
    if session: type(session)._fork.__globals__["_answer"] = answer
def introduced(channel, shown=""):
    channel.receive()
    channel.send({"callable": True, "shown": shown})
    return channel
"""


def crashed(outcome: Outcome) -> bool:
    """The judge went down instead of the notebook."""
    return not outcome.ended


def _message(text: bytes, blob: bytes = b"") -> bytes:
    return struct.pack("!II", len(text), len(blob)) + text + blob


class _Owns:
    def __reduce__(self):
        return exec, ("import os; os.environ['OWNED'] = 'yes'",)


GARBAGE = {
    "what is no JSON": _message(b"spam"),
    "what is no text": _message(b'"\xff\xfe"'),
    "lists in lists without end": _message(b"[" * 100_000),
    "a number of a hundred thousand digits": _message(b"9" * 100_000),
    "a form that does not exist": _message(b'{"evil":1}'),
    "two forms at once": _message(b'{"tuple":[],"bytes":0}'),
    "an array whose bytes never came": _message(b'{"array":[7,"<f8",[2],"C",false]}'),
    "an array of objects": _message(b'{"array":[0,"|O",[1],"C",false]}', struct.pack("!I", 8) + bytes(8)),
    "an array larger than its bytes": _message(
        b'{"array":[0,"<f8",[1000000],"C",false]}', struct.pack("!I", 8) + bytes(8)
    ),
    "an array of negative length": _message(b'{"array":[0,"<f8",[-1],"C",false]}', struct.pack("!I", 8) + bytes(8)),
    "a part that is longer than the message": _message(b'{"bytes":0}', struct.pack("!I", 2**31) + bytes(8)),
    "a dictionary whose keys are lists": _message(b'{"dict":[[[1],2]]}'),
}

_PICKLE = base64.b64encode(_message(pickle.dumps(_Owns()))).decode()

# What a lookup table can know: the inputs of an earlier run, printed by an answer. @TABLE@ is filled in by the tests.
_LEARNT = """
known = {@TABLE@}
def softmax(x):
    found = known.get(x.tobytes().hex())
    return x if found is None else np.frombuffer(bytes.fromhex(found), x.dtype).reshape(x.shape).copy()
"""

_OPERATORS = (
    "_last_key_dropped", "_as_many_keys_as_queries", "_causal_when_square", "_neighbour_mixed_in", "_centred_queries",
)  # fmt: skip

OWN = (
    *(
        attack(f"the judge told {kind}", "own", "the judge goes down, and the class with it",
               before(f"{SESSION}if channel: channel.sock.sendall({data!r})"),
               evidence=crashed, against="any form", human=True)
        for kind, data in GARBAGE.items()
    ),
    attack("a pickle sent to the judge", "own", "code runs in the judge", before(f"""{SESSION}
import base64
if channel: channel.sock.sendall(base64.b64decode({_PICKLE!r}))
"""), evidence=lambda outcome: outcome.owned, against="pickle on the channel", human=True),
    attack("a message of 200 MB sent to the judge", "own", "the judge's memory", before(f"""{SESSION}
if channel:
    channel.sock.sendall(struct.pack("!II", 2, 200 * 2**20) + b"{{}}")
    for _ in range(200): channel.sock.sendall(bytes(2**20))
"""), evidence=lambda outcome: outcome.received > 150 * 2**20, against="messages of any size", human=True),
    attack("answers to one check that come to 100 MB", "own", "the judge's memory and time", before(f"""{SESSION}{TAKE_OVER}
def answer(channel, space):
    introduced(channel)
    for number in range(10**6):
        channel.receive()
        channel.send({{"value": np.zeros((1000, 1000) if number < 9 else 1), "error": None, "said": ""}})
take_over(answer)
"""), evidence=lambda outcome: outcome.received > 60 * 2**20, against="answers of any size", human=True),
    attack("descriptors sent to the judge", "own", "the judge has none left", before(f"""{SESSION}
import socket
if channel:
    text = b'{{"dict":[["said","with descriptors"],["error",""],["pictures",[]]]}}'
    def send(message, *more):
        socket.send_fds(channel.sock, [struct.pack("!II", len(text), 0) + text], [0] * 50)
    channel.send = send
"""), evidence=lambda outcome: outcome.descriptors >= 50, against="descriptors welcome"),
    attack("an answer that dribbles in", "own", "the judge waits as long as one likes", before(f"""{SESSION}
if channel:
    text = b'{{"dict":[["said","dribbled"],["error",""],["pictures",[]]]}}'
    data = struct.pack("!II", len(text), 0) + text
    real = channel.send
    def send(message, *more):
        if not (isinstance(message, dict) and "pictures" in message): return real(message, *more)
        for at in range(0, len(data), 4):
            channel.sock.sendall(data[at:at + 4])
            time.sleep(0.5)
        del channel.send
    channel.send = send
"""), evidence=says("dribbled"), against="patience for every byte", human=True),
    attack("thousands of arrays where text belongs", "own", "the judge writes them down, for minutes", before(f"""{SESSION}
if channel:
    real, sent = channel.send, []
    channel.send = lambda message, *more: real({{**message, "said": [np.arange(500.0)] * 200}} if isinstance(message, dict) and "pictures" in message else message, *more)
"""), evidence=says("array([  0.,"), against="anything as text", human=True),
    attack("a gigabyte of pictures", "own", "the judge's memory, and pages that no browser opens", before(f"""{SESSION}
png = (b"\\x89PNG\\r\\n\\x1a\\n" + bytes(8) + b"\\0\\0\\0\\1\\0\\0\\0\\1").ljust(2**20, b"x")
if channel:
    real = channel.send
    def send(message, *more):
        if not (isinstance(message, dict) and "pictures" in message): return real(message, *more)
        real({{**message, "pictures": [png] * 20}}, *more)
    channel.send = send
"""), cells={f"after {number}": "1" for number in range(5)},
           evidence=lambda outcome: sum(map(len, outcome.pictures)) > 30 * 2**20, against="pictures without end"),
    attack("a picture of sixty thousand pixels a side", "own", "the marker's browser goes down", before(f"""{SESSION}
png = b"\\x89PNG\\r\\n\\x1a\\n" + bytes(8) + struct.pack("!II", 60000, 60000) + b"rest"
if channel:
    real = channel.send
    channel.send = lambda message, *more: real({{**message, "pictures": [png]}} if isinstance(message, dict) and "pictures" in message else message, *more)
"""), evidence=lambda outcome: any(struct.pack("!I", 60000) in picture for picture in outcome.pictures),
           against="pictures of any kind"),
    attack("a picture that is a script", "own", "it runs where the marker looks", before(f"""{SESSION}
if channel:
    real = channel.send
    channel.send = lambda message, *more: real({{**message, "pictures": [b"<svg onload=alert(1)>"]}} if isinstance(message, dict) and "pictures" in message else message, *more)
"""), evidence=lambda outcome: any(b"<svg" in picture for picture in outcome.pictures), against="pictures of any kind"),
    attack("a report as long as a book", "own", "the writer's time, and a page that no browser opens", """
        def softmax(x): return {f"{number} " + "\\x80" * 3900: "" for number in range(60)}
        """, evidence=lambda outcome: len(outcome.said) > 50_000, against="findings of any length"),
    attack("text that no file can hold", "own", "the gradebook's writer goes down", before(f"""{SESSION}
if channel:
    text = b'{{"dict":[["said","half a pair: \\\\\\\\ud800"],["error",""],["pictures",[]]]}}'.replace(b"\\\\\\\\", b"\\\\")
    channel.send = lambda message, *more: channel.sock.sendall(struct.pack("!II", len(text), 0) + text)
"""), evidence=lambda outcome: "\ud800" in outcome.said, against="half characters"),
    attack("inputs of an earlier run learnt by heart", "own", "right on the numbers that were drawn then", _LEARNT,
           against="a seed that is known"),
    attack("a learner's test that counts how often it is called", "own", "the right operators always come first",
           cells={"symmetry_test": """
        import os
        def symmetry_test(attend, rng):
            with open("/tmp/calls", "a") as file: file.write("x")
            return os.path.getsize("/tmp/calls") <= 8
        """}, against="a known order"),
    attack("a learner's test that tells operators by the words of their errors", "own", "no symmetry is ever tried",
           cells={"symmetry_test": f"""
        def symmetry_test(attend, rng):
            try: attend(1, 2, 3, 4, 5, 6, 7)
            except Exception as error: return not any(name in str(error) for name in {_OPERATORS})
            return True
        """}, against="errors in their own words", evidence=lambda outcome: outcome.points > 0.5),
    attack("a learner's test that never stops asking", "own", "the judge computes for ever", cells={"symmetry_test": """
        import os
        def symmetry_test(attend, rng):
            for _ in range(0 if os.path.exists("/tmp/asked") else 2500): attend(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2)))
            open("/tmp/asked", "w").close()
            raise ValueError("asked 2500 times")
        """}, evidence=says("asked 2500 times"), against="questions without end", human=True),
    attack("a learner's test that asks for a product of millions", "own", "the judge's memory and time",
           cells={"symmetry_test": """
        from pathlib import Path
        def symmetry_test(attend, rng):
            asked = Path("/tmp/asked")
            if not asked.exists():
                asked.write_text(f"was given {attend(np.ones((500, 60)), np.ones((500, 60)), np.ones((500, 60))).shape}")
            raise ValueError(asked.read_text())
        """}, evidence=says("was given (500, 60)"), against="questions of any size"),
    attack("answers left in /tmp by an accomplice", "own", "somebody else's answer", """
        import os
        if os.path.exists("/tmp/@NONCE@.py"): exec(open("/tmp/@NONCE@.py").read())
        else:
            def softmax(x): return x
        """, against="one file system for all", accomplice="""
source = "def softmax(x):\\n    e = np.exp(x - x.max(-1, keepdims=True))\\n    return e / e.sum(-1, keepdims=True)"
open("/tmp/@NONCE@.py", "w").write(source)
"""),
    attack("a table passed by an accomplice that listens", "own", "somebody else's answer", """
        import socket, time
        def softmax(x): return x
        for _ in range(10):
            try:
                with socket.socket(socket.AF_UNIX) as caller:
                    caller.connect("\\0accomplice-@NONCE@")
                    exec(caller.recv(4096).decode())
                    break
            except OSError: time.sleep(0.1)
        """, against="one network for all", accomplice="""
import os, socket
source = b"def softmax(x):\\n    e = np.exp(x - x.max(-1, keepdims=True))\\n    return e / e.sum(-1, keepdims=True)"
if os.fork() == 0:
    os.setsid()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\\0accomplice-@NONCE@")
        server.listen()
        server.settimeout(5)
        caller, _ = server.accept()
        caller.sendall(source)
    os._exit(0)
"""),
)  # fmt: skip
