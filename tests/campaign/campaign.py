"""The fault campaign: clients with jobs of every kind, and injections meanwhile.

--seed decides which faults, in which order and how long apart, and all data; not how the
processes interleave. What was submitted is in DIR/ledger, which check.py compares with what
was delivered.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import time

from cluster import Cluster, failpoints, mills
from jobs import KINDS, Ledger, Work, World

CLIENTS = 4
ATTEMPTS_MAX = 30  # of one piece of work; the checker finds it missing then
END_S = 180  # for everything to come to its end once no fault happens any more

# How often, of so many; what does not apply just then is drawn anew.
WEIGHTS = {
    "coordinator kill": 10, "coordinator stop": 5,
    "worker kill": 10, "worker stop": 6, "worker term": 3,
    "mill kill": 14, "mill stop": 5,
    "client kill": 5, "client stop": 5,
    "net cut": 10, "net cutall": 4, "net stall": 6, "net delay": 4, "net drop": 8,
    "net garbage": 4, "net frame": 4, "net dup": 6, "net reorder": 3,
    "stranger": 4, "disk": 2, "failpoint": 12,
}


class Campaign:
    def __init__(self, options, rng):
        self.options, self.rng = options, rng
        self.cluster = Cluster(options.dir, options.bin, options.seed, state=options.state)
        self.world = World(self.cluster, rng, options.scale)
        self.ledger = Ledger(self.cluster)
        self.points = failpoints(options.bin)
        self.counts = collections.Counter()
        self.point_counts = collections.Counter()
        self.whys = collections.Counter()
        self.kinds = options.kinds.split(",")
        self.running, self.retry, self.troubles = [], [], []
        self.works = self.finished = 0
        self.filler = None
        self.stopped_mills, self.client_points, self.tries = [], [], collections.Counter()
        self.weights = {k: w for k, w in WEIGHTS.items() if self._possible(k)}

    def _possible(self, kind):
        if kind == "disk":
            return self.options.tmpfs
        return kind != "failpoint" or bool(self.points)

    # ---- jobs ----

    def tend(self, more):
        """One round: programs are tended, ended attempts noted, free places filled."""
        self.cluster.tend()
        self._tend_disk(time.monotonic())
        for fault in self.cluster.proxy.told():
            if fault["hit"]:
                self.counts["net " + fault["fault"]] += 1
                self.troubles.append((time.monotonic(), fault["fault"], fault["side"]))
        for name in self.cluster.fired_names:
            self.counts["failpoint"] += 1
            self.point_counts[name] += 1
        self.cluster.fired_names.clear()
        for attempt in list(self.running):
            code = attempt.tend()
            if code is not None:
                self.running.remove(attempt)
                if attempt.failpoint and attempt.failpoint.fired():
                    self.cluster.fired(attempt.failpoint)
                self._ended(attempt, code)
        while len(self.running) < CLIENTS and (more or self.retry):
            if self.retry:
                work = self.retry.pop(0)
            else:
                work = Work(self.world, self.works, self.kinds[self.works % len(self.kinds)], self.rng)
                self.works += 1
            self.running.append(self.begin(work))

    def begin(self, work):
        """The next attempt; with a failpoint of clients when one waits for it."""
        point = None
        if self.client_points and work.kind != "keyed":  # that one is not our program
            point = self.cluster.point(self.client_points.pop(0), "client", "kill", 1)
        return work.attempt(point)

    def _ended(self, attempt, code):
        why = "" if code == 0 else attempt.why(code, self.troubles)
        self.ledger.write(attempt, code, why)
        if code == 0:
            self.finished += 1
            return
        self.whys[why or "unexplained"] += 1
        if why is None:
            self.cluster.strange.append(f"{attempt.name} ({attempt.kind}) ended with {code}, see {attempt.err}")
        if why == "disk full":
            attempt.work.refused += 1  # and right so: it comes again when there is room
        if attempt.work.attempts - attempt.work.refused < ATTEMPTS_MAX:
            self.retry.append(attempt.work)

    # ---- injections; each returns whether it took place now ----

    def inject(self):
        kind = self.rng.choices(list(self.weights), list(self.weights.values()))[0]
        what, _, how = kind.partition(" ")
        if getattr(self, "_" + what)(how or what):
            self.counts[kind] += 1

    def _pause_s(self):
        """Mostly short; one in eight is longer than the coordinator waits for a peer."""
        return self.rng.uniform(5, 9) if self.rng.random() < 0.125 else self.rng.uniform(0.05, 1.5)

    def _strike(self, program, how):
        if not program.pid() or program.paused_until:
            return False
        if how == "kill":
            program.kill()
        elif how == "term":
            program.killed = True
            program.process.terminate()
        else:
            program.pause(self._pause_s())
        return True

    def _coordinator(self, how):
        return self._strike(self.cluster.coordinator, how)

    def _worker(self, how):
        return self._strike(self.rng.choice(self.cluster.workers), how)

    def _mill(self, how):
        pid = self.rng.choice(self.cluster.workers).pid()
        found = mills(pid) if pid else []
        if not found:
            return False
        victim = self.rng.choice(found)
        try:
            if how == "kill":
                os.kill(victim, 9)
            else:
                os.kill(victim, 19)
                self.stopped_mills.append((time.monotonic() + self.rng.uniform(0.05, 1.5), victim))
        except ProcessLookupError:
            return False
        return True

    def _client(self, how):
        attempts = [a for a in self.running if not a.killed and not a.paused_until]
        if not attempts:
            return False
        attempt = self.rng.choice(attempts)
        if how == "kill":
            attempt.kill()
        else:
            attempt.pause(self._pause_s())
        return True

    def _net(self, how):
        side = "worker" if how == "reorder" or self.rng.random() < 0.6 else "client"
        self.cluster.proxy.order(fault=how, side=side, ms=int(1000 * self._pause_s()),
                                 dir=self.rng.choice(["up", "down", "both"]))
        return False  # counted when the proxy says so

    def _stranger(self, _):
        """Someone who is no peer: random bytes, to the coordinator itself."""
        done = subprocess.run(
            ["/usr/bin/python3", os.path.join(os.path.dirname(__file__), "stranger.py"),
             str(self.cluster.port), str(self.rng.randrange(1 << 30))], check=False)
        return done.returncode == 0

    def _disk(self, _):
        if self.filler:
            return False
        self.filler = os.path.join(os.path.dirname(self.options.state), "filler")
        self.filled_until = time.monotonic() + self.rng.uniform(0.3, 1.5)
        return True

    def _tend_disk(self, now):
        self.cluster.disk_full = bool(self.filler)
        if not self.filler:
            return
        self.troubles.append((now, "disk", ""))
        if now < self.filled_until:
            try:
                with open(self.filler, "ab", buffering=0) as f:
                    while f.write(bytes(1 << 16)):
                        pass
            except OSError:
                pass  # full, as it should be
        else:
            os.unlink(self.filler)
            self.filler = None

    def _failpoint(self, _):
        name = min(self.points, key=lambda p: (self.tries[p], self.rng.random()))
        program, may_error = self.points[name]
        self.tries[name] += 1
        if program == "tidemill":
            self.client_points.append(name)
            return False
        target = self.cluster.coordinator
        if program == "tidemill-worker":
            target = self.rng.choice(self.cluster.workers)
        if target.failpoint or target.paused_until:
            return False
        early = "epoch" in name or "hello" in name or "checkpoint" in name
        action = "error" if may_error else "kill"
        self.cluster.arm(target, name, action, 1 if early else self.rng.choice([1, 1, 2, 5, 20]))
        return False  # counted when it fires

    # ---- the whole ----

    def run(self):
        began = time.monotonic()
        until = began + self.options.minutes * 60
        next_at = began + 1
        while sum(self.counts.values()) < self.options.injections and time.monotonic() < until:
            self.tend(more=True)
            self._wake_mills()
            if time.monotonic() >= next_at:
                self.inject()
                next_at = time.monotonic() + self.rng.expovariate(1 / self.options.gap)
            time.sleep(0.01)
        self.spent = time.monotonic() - began
        return self.settle()

    def _wake_mills(self, all_of_them=False):
        now = time.monotonic()
        for at, pid in list(self.stopped_mills):
            if all_of_them or now >= at:
                self.stopped_mills.remove((at, pid))
                try:
                    os.kill(pid, 18)
                except ProcessLookupError:
                    pass

    def settle(self):
        """No more faults: everything that was begun comes to its end."""
        self.cluster.heal()
        self._wake_mills(all_of_them=True)
        if self.filler:
            self.filled_until = 0
        until = time.monotonic() + END_S
        while (self.running or self.retry) and time.monotonic() < until:
            self.tend(more=False)
            time.sleep(0.01)
        late = [a.name for a in self.running] + [w.name for w in self.retry]
        if late:
            self.cluster.strange.append(f"not at their end after {END_S} s without faults: {' '.join(late)}")
        while not self._quiet() and time.monotonic() < until:
            self.tend(more=False)
            time.sleep(0.2)
        for attempt in self.running:
            attempt.kill()
            attempt.process.wait()
        self.cluster.stop()
        self.world.stop()
        return not self.cluster.strange

    def conduct(self):
        """The whole, whatever happens to this process short of SIGKILL; exits."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        try:
            fine = self.run()
        except BaseException:
            self._abandon()
            raise
        self.report()
        sys.exit(0 if fine else 1)

    def _abandon(self):
        processes = [a.process for a in self.running] + [p.process for p in self.cluster.programs]
        processes += [self.cluster.proxy.process, self.world.nginx]
        for process in processes:
            if process and process.poll() is None:
                process.kill()
                process.wait()

    def _quiet(self):
        """What clients that were killed had submitted is done too, and what workers that were
        killed had left is swept: each has no journal in its spool but its own."""
        if any(len(os.listdir(spool)) > 1 for spool in self.cluster.spools):
            return False
        done = subprocess.run([os.path.join(self.options.bin, "tidemill"), "job", "ls", "--json"],
                              env=self.cluster.client_env, capture_output=True, text=True, check=False)
        return done.returncode == 0 and rows_done(done.stdout)

    def report(self):
        print(f"seed {self.options.seed}: {sum(self.counts.values())} injections in {self.spent:.0f} s, "
              f"{self.works} pieces of work, {self.finished} done")
        for kind, n in sorted(self.counts.items()):
            print(f"  {n:5} {kind}")
        if self.points:
            hit = [n for n in self.point_counts.values() if n]
            print(f"  failpoints: {len(hit)} of {len(self.points)} fired")
        if self.whys:
            print("  attempts that ended early:", ", ".join(f"{n} {w}" for w, n in self.whys.most_common()))
        for line in self.cluster.strange:
            print("STRANGE:", line)


def rows_done(text):
    for line in text.splitlines():
        row = json.loads(line)
        if row["ok"] + row["failed"] + row["quarantined"] + row["cancelled"] < row["tasks"]:
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", required=True)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--state", help="on a file system of its own, for the disk to be full")
    parser.add_argument("--tmpfs", action="store_true")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--injections", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--gap", type=float, default=0.5, help="seconds between injections, on average")
    parser.add_argument("--scale", type=float, default=1, help="how large the jobs are")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of jobs")
    options = parser.parse_args()
    campaign = Campaign(options, random.Random(options.seed))
    campaign.conduct()


if __name__ == "__main__":
    main()
