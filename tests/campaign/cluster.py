"""Programs of one campaign: started, killed, started again, and all gone at its end.

Everything is killed by pid, and only what was started here. MARK is in the environment of
all of it, so that the checker can see whether a process is left.
"""

import json
import os
import random
import signal
import socket
import subprocess
import time

MARK = "TIDEMILL_CAMPAIGN"


def free_port():
    """Below the range that the kernel gives to outgoing connections. Not of the seed: others
    may run the same one at the same time."""
    while True:
        port = random.SystemRandom().randint(18000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def children(pid):
    """Pids of the direct children."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def mills(pid):
    found = []
    for child in children(pid):
        try:
            with open(f"/proc/{child}/cmdline", "rb") as f:
                if b"--mill" in f.read().split(b"\0"):
                    found.append(child)
        except OSError:
            pass
    return found


class Failpoint:
    """One point, armed once: while its mark is missing, its program starts with it."""

    def __init__(self, directory, name, action, n):
        self.directory, self.name = directory, name
        self.text = f"{name}={action}:{n}"
        os.makedirs(directory)

    def fired(self):
        return os.path.exists(os.path.join(self.directory, self.name))

    def environment(self):
        return {"TIDEMILL_FAILPOINTS": self.text, "TIDEMILL_FAILPOINTS_DIR": self.directory}


class Program:
    """A program that is started again whenever it ends, until it is stopped."""

    def __init__(self, cluster, name, argv):
        self.cluster, self.name, self.argv = cluster, name, argv
        self.process = None
        self.failpoint = None
        self.paused_until = None
        self.killed = False  # its next end is our doing
        self.next_start = 0
        self.fired_at = -10.0
        self.starts = 0
        self.log = os.path.join(cluster.dir, "log", name)

    def start(self):
        env = dict(self.cluster.env)
        if self.failpoint:
            env |= self.failpoint.environment()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.starts += 1
        self.killed = False
        self.paused_until = None

    def pid(self):
        return self.process.pid if self.process and self.process.poll() is None else None

    def kill(self):
        if self.pid():
            self.killed = True
            self.process.kill()

    def pause(self, seconds):
        if self.pid():
            self.process.send_signal(signal.SIGSTOP)
            self.paused_until = time.monotonic() + seconds

    def tend(self):
        """Wakes it, starts it again, and says what was strange about its end."""
        now = time.monotonic()
        if self.paused_until and now >= self.paused_until:
            self.paused_until = None
            if self.pid():
                self.process.send_signal(signal.SIGCONT)
        if self.failpoint and self.failpoint.fired():
            self.cluster.fired(self.failpoint)
            self.failpoint = None
            self.fired_at = now
        if self.process and self.process.poll() is not None:
            code = self.process.returncode
            expected = self.killed or now - self.fired_at < 2
            if not expected and not self.cluster.may_end(self, code):
                self.cluster.strange.append(f"{self.name} ended by itself with {code}, see {self.log}")
            self.process = None
            self.next_start = now + (0.2 if code > 0 else 0)
        if not self.process and now >= self.next_start:
            self.start()

    def stop(self):
        """The clean end; its exit code."""
        if not self.pid():
            return None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.cluster.strange.append(f"{self.name} did not end on SIGTERM")
            self.process.kill()
            return self.process.wait()


class Proxy:
    def __init__(self, cluster, upstream, sides):
        argv = ["/usr/bin/python3", os.path.join(os.path.dirname(__file__), "proxy.py"),
                "--upstream", str(upstream), "--seed", str(cluster.seed)]
        for side, port in sides.items():
            argv += ["--listen", f"{side}={port}"]
        self.process = subprocess.Popen(
            argv, env=cluster.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdout.readline()
        os.set_blocking(self.process.stdout.fileno(), False)
        self.rest = b""

    def order(self, **command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def told(self):
        """What has taken place since the last call."""
        self.rest += self.process.stdout.read() or b""
        *lines, self.rest = self.rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


class Cluster:
    """A coordinator, workers, and the proxy that all but the coordinator go through."""

    def __init__(self, directory, bin_dir, seed, workers=3, procs=2, state=None):
        self.dir, self.bin, self.seed = directory, bin_dir, seed
        self.strange, self.fired_names, self.armed = [], [], 0
        self.disk_full = False
        for sub in ("log", "out", "fp", "data"):
            os.makedirs(os.path.join(directory, sub), exist_ok=True)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMILL_")}
        self.env[MARK] = directory
        self.env["PATH"] = f"{bin_dir}:{self.env['PATH']}"
        for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
            self.env[name] = os.path.join(directory, name)
            os.makedirs(self.env[name], mode=0o700, exist_ok=True)
        self.port = free_port()
        self.ports = {"worker": free_port(), "client": free_port()}
        self.state = state or os.path.join(directory, "state")
        self.coordinator = Program(self, "coordinator", [
            os.path.join(bin_dir, "tidemill-coordinator"), "--silence", "4s", "--reserve", "8MiB",
            "--listen", f"tcp://127.0.0.1:{self.port}", "--plain", "--state", self.state])
        self.workers, self.spools = [], []
        for i in range(1, workers + 1):
            spool = os.path.join(directory, f"spool{i}")
            os.makedirs(spool)
            self.spools.append(spool)
            self.workers.append(Program(self, f"w{i}", [
                os.path.join(bin_dir, "tidemill-worker"), "--name", f"w{i}",
                "--join", f"tcp://127.0.0.1:{self.ports['worker']}", "--procs", str(procs),
                "--coroutines", "64", "--spool", spool,
                "--root", os.path.join(directory, "data") + ":ro",
                "--root", os.path.join(directory, "out")]))
        self.programs = [self.coordinator, *self.workers]
        self.proxy = Proxy(self, self.port, self.ports)
        self.client_env = self.env | {"TIDEMILL_COORDINATOR": f"tcp://127.0.0.1:{self.ports['client']}"}
        for program in self.programs:
            program.start()

    def tend(self):
        for program in self.programs:
            program.tend()

    def fired(self, failpoint):
        self.fired_names.append(failpoint.name)

    def may_end(self, program, code):
        """A worker that comes back while its name is still taken ends, and tries again; a
        coordinator that finds the disk full at its start does too."""
        if code <= 0:
            return False
        with open(program.log, "rb") as log:
            log.seek(max(0, os.path.getsize(program.log) - 400))
            said = log.read()
        if program is self.coordinator:
            return self.disk_full and b"disk is full" in said
        return b"another worker with this name" in said

    def point(self, name, where, action, n):
        self.armed += 1
        return Failpoint(os.path.join(self.dir, "fp", f"{self.armed}.{where}"), name, action, n)

    def arm(self, program, name, action, n):
        """Starts the program again with a failpoint."""
        program.failpoint = self.point(name, program.name, action, n)
        program.kill()

    def heal(self):
        """No fault any more: all run, nothing is armed."""
        for program in self.programs:
            self.disarm(program)
            if program.paused_until:
                program.paused_until = time.monotonic()

    def disarm(self, program):
        if program.failpoint:
            program.failpoint = None
            program.kill()

    def stop(self):
        """Workers first, as an operator would. Exit codes other than 0 are strange."""
        for program in [*self.workers, self.coordinator]:
            code = program.stop()
            if code:
                self.strange.append(f"{program.name} ended with {code} on SIGTERM, see {program.log}")
        self.proxy.stop()


def failpoints(bin_dir):
    """Every failpoint of the programs: {name: (program, may_error)}; empty in a release.
    Not those of moving a state, which no cluster does, and of files so large that mills share
    them; tests/e2e/move.bats and split.bats have those."""
    found = {}
    for program in ("tidemill-coordinator", "tidemill-worker", "tidemill"):
        done = subprocess.run([os.path.join(bin_dir, program), "--version" if program != "tidemill" else "version"],
                              env=os.environ | {"TIDEMILL_FAILPOINTS": "list"},
                              stdout=subprocess.PIPE, check=False, text=True)
        for line in done.stdout.splitlines():
            name, actions = line.split(" ")[:2]
            if actions.startswith("kill") and not name.startswith(("move_", "store_behind_", "mill_part_", "rekey_", "enrolled", "keyfile_")):
                found[name] = (program, "error" in actions)
    return found
