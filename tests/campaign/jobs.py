"""What the clients of a campaign do, and the ledger of it.

A Work is done when one attempt at it has ended with exit 0. Each attempt is one line of the
ledger, whatever became of it; the checker knows nothing but the ledger, the files and the
coordinator's database.
"""

import json
import os
import signal
import subprocess
import time

from cluster import free_port

KINDS = ("hash", "encrypt", "fetch", "keyed", "map", "detached", "removed")
MANGLED = ("garbage", "dup", "reorder", "frame")
MAP_LINES = 3000
AFTER_S = 5  # so long an injection may be felt after its end


class World:
    """Inputs that all jobs share."""

    def __init__(self, cluster, rng, scale):
        self.cluster = cluster
        self.data = os.path.join(cluster.dir, "data")
        self.www = os.path.join(cluster.dir, "www")
        self._tree("small", rng, int(1500 * scale), 200)
        self._tree("mixed", rng, int(120 * scale), 200_000)
        os.makedirs(self.www)
        for i in range(int(200 * scale)):
            with open(os.path.join(self.www, f"f{i}"), "wb") as f:
                f.write(rng.randbytes(rng.randint(1, 30_000)))
        self.identity = os.path.join(cluster.dir, "identity")
        subprocess.run(["age-keygen", "-o", self.identity], check=True, capture_output=True)
        self.recipient = subprocess.run(
            ["age-keygen", "-y", self.identity], check=True, capture_output=True, text=True).stdout.strip()
        self.port = self._nginx()
        self.urls = os.path.join(cluster.dir, "urls")
        with open(self.urls, "w", encoding="ascii") as f:
            for name in sorted(os.listdir(self.www)):
                f.write(f"http://127.0.0.1:{self.port}/{name}\n")
        self.names = b"".join(
            os.fsencode(os.path.join(d, n)) + b"\0"
            for d, _, files in sorted(os.walk(os.path.join(self.data, "small"))) for n in sorted(files))

    def _tree(self, name, rng, count, most):
        for i in range(count):
            # So long that a chunk of them is large, and has its body in a segment.
            directory = os.path.join(self.data, name, f"d{i % 13}-" + "long" * 50,
                                     "with space" if i % 5 == 0 else "plain")
            os.makedirs(directory, exist_ok=True)
            with open(os.path.join(directory, f"f{i}"), "wb") as f:
                f.write(rng.randbytes(int(most * rng.random() ** 3)))
        for odd in (b"new\nline", b"back\\slash", b"bad\xff\xfe", b"empty"):
            with open(os.path.join(os.fsencode(self.data), os.fsencode(name), odd), "wb") as f:
                f.write(b"" if odd == b"empty" else odd)

    def _nginx(self):
        base = os.path.join(self.cluster.dir, "ngx")
        os.makedirs(base)
        with open(os.path.join(self.www, "f0"), "rb") as f:
            whole = f.read()
        while True:
            port = free_port()
            user = "user root;" if os.geteuid() == 0 else ""
            with open(os.path.join(base, "conf"), "w", encoding="ascii") as f:
                f.write(f"daemon off; {user} worker_processes 1; pid {base}/pid; error_log {base}/err;"
                        "events { worker_connections 1024; } http { access_log off;")
                for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
                    f.write(f" {what}_temp_path {base}/{what};")
                f.write(f" server {{ listen 127.0.0.1:{port}; root {self.www}; }} }}\n")
            self.nginx = subprocess.Popen(["nginx", "-c", f"{base}/conf", "-p", base],
                                          env=self.cluster.env, stderr=subprocess.DEVNULL)
            for _ in range(200):
                if self.nginx.poll() is not None:
                    break
                got = subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/f0"],
                                     check=False, capture_output=True)
                if got.stdout == whole and self.nginx.poll() is None:
                    return port
                time.sleep(0.05)

    def stop(self):
        self.nginx.terminate()
        self.nginx.wait(30)


class Attempt:
    """One process, or for detached jobs a chain of them, each after the one before."""

    def __init__(self, work, number, failpoint):
        self.work, self.kind, self.failpoint = work, work.kind, failpoint
        self.name = f"{work.name}-{number}"
        self.world, self.cluster = work.world, work.world.cluster
        base = os.path.join(self.cluster.dir, "out", self.name)
        self.out, self.err, self.tree = base + ".out", base + ".err", base + ".d"
        self.began = time.monotonic()
        self.killed, self.paused_until = False, None
        self.job = None
        self.steps = list(self._steps())
        self._next()

    def _steps(self):
        """(argv, input, where its output goes)."""
        w, bin_dir = self.world, self.cluster.bin
        mill = os.path.join(bin_dir, "tidemill")
        hashing = [mill, "hash", "--name", self.name, "-r"]
        if self.kind == "hash":
            yield [*hashing, os.path.join(w.data, "small")], None, self.out
        elif self.kind == "encrypt":
            yield [mill, "encrypt", "--name", self.name, "--json", "-r", w.recipient, "--recursive",
                   "-o", self.tree, os.path.join(w.data, "mixed")], None, self.out
        elif self.kind == "fetch":
            yield [mill, "fetch", "--name", self.name, "--json", "-i", w.urls, "-o", self.tree,
                   "--hash", "sha256"], None, self.out
        elif self.kind == "map":
            lines = "".join(f"{self.name} {i}\n" for i in range(self.work.lines)).encode()
            yield [os.path.join(bin_dir, "example-map")], lines, self.out
        elif self.kind == "keyed":
            yield ["/usr/bin/python3", os.path.join(os.path.dirname(__file__), "keyed.py"),
                   self.cluster.client_env["TIDEMILL_COORDINATOR"], self.work.journal,
                   "--key", self.work.key], w.names, self.out
        else:  # detached, removed
            yield [*hashing, "-d", os.path.join(w.data, "small")], None, self.out + ".id"
            yield [mill, "wait", "JOB"], None, "/dev/null"
            yield [mill, "results", "JOB"], None, self.out
            if self.kind == "removed":
                yield [mill, "job", "rm", "JOB"], None, "/dev/null"

    def _next(self):
        argv, given, to = self.steps.pop(0)
        if "JOB" in argv:
            with open(self.out + ".id", encoding="ascii") as f:
                self.job = f.read().strip()
            argv = [self.job if word == "JOB" else word for word in argv]
        stdin = subprocess.DEVNULL
        if given is not None:
            path = self.out + ".in"
            with open(path, "wb") as f:
                f.write(given)
            stdin = open(path, "rb")  # closed below: the child has its own
        env = self.cluster.client_env | (self.failpoint.environment() if self.failpoint else {})
        with open(to, "wb") as out, open(self.err, "ab") as err:
            self.process = subprocess.Popen(argv, env=env, stdin=stdin, stdout=out, stderr=err)
        if given is not None:
            stdin.close()

    def kill(self):
        self.killed = True
        self.process.kill()

    def pause(self, seconds):
        self.process.send_signal(signal.SIGSTOP)
        self.paused_until = time.monotonic() + seconds

    def tend(self):
        """None while it runs, then its exit code."""
        if self.paused_until and time.monotonic() >= self.paused_until:
            self.paused_until = None
            self.process.send_signal(signal.SIGCONT)
        code = self.process.poll()
        if code == 0 and self.steps:
            self._next()
            return None
        return code

    def why(self, code, troubles):
        """Which injection explains an exit that is not 0; None: nothing does."""
        if self.killed or code == -signal.SIGKILL:
            return "killed"
        with open(self.err, encoding="utf-8", errors="replace") as f:
            text = f.read()
        during = {(what, side) for at, what, side in troubles
                  if at >= self.began - AFTER_S}
        if ("full: no job is taken" in text or "no space left" in text) and ("disk", "") in during:
            return "disk full"
        if any((what, "client") in during for what in MANGLED) and code in (1, 2):
            return "mangled"
        if code == 6:
            return "unreachable"
        return None


class Work:
    def __init__(self, world, number, kind, rng):
        self.world, self.kind, self.name = world, kind, f"c{number}"
        self.attempts, self.refused, self.lines = 0, 0, MAP_LINES
        self.key = rng.randbytes(16).hex()
        self.journal = os.path.join(world.cluster.dir, "out", self.name + ".journal")

    def attempt(self, failpoint=None):
        self.attempts += 1
        return Attempt(self, self.attempts, failpoint)


class Ledger:
    def __init__(self, cluster):
        self.file = open(os.path.join(cluster.dir, "ledger"), "w", encoding="ascii")

    def write(self, attempt, code, why):
        work = attempt.work
        json.dump({"kind": work.kind, "work": work.name, "name": attempt.name, "exit": code, "why": why,
                   "out": attempt.out, "tree": attempt.tree, "journal": work.journal, "key": work.key,
                   "lines": work.lines}, self.file)
        self.file.write("\n")
        self.file.flush()
