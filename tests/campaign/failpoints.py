"""Every failpoint once: a small cluster, the point armed with kill, the job that passes it,
and afterwards the checker. Exit 1 when a point never fired, or when anything was lost.

All points share one cluster, so that each dies into what the ones before left behind.
"""

import argparse
import random
import sys
import time

from campaign import Campaign
from jobs import Work

EACH_S = 60
# The job that passes a point: by prefix, the first that fits; else encrypting, which passes
# most. Removing jobs is what empties the log, and gives bodies back.
KINDS = (("store_checkpoint", "removed"), ("segment_drop", "removed"), ("client_credit", "map"), ("client_", "hash"),
         ("mill_task", "hash"), ("file", "encrypt"), ("dir", "encrypt"))


class Each(Campaign):
    def __init__(self, options, rng):
        super().__init__(options, rng)
        self.missed = []

    def run(self):
        self.spent = time.monotonic()
        points = [p for p in sorted(self.points) if p.startswith(tuple(self.options.only or [""]))]
        for name in points:
            self.one(name)
        self.spent = time.monotonic() - self.spent
        for name in self.missed:
            self.cluster.strange.append(f"failpoint {name} never fired")
        return self.settle()

    def one(self, name):
        """Arms it, and works until it has fired and the work is done."""
        kind = next((k for prefix, k in KINDS if name.startswith(prefix)), "encrypt")
        program, may_error = self.points[name]
        action = "error" if may_error else "kill"
        before = self.point_counts[name]
        if program != "tidemill":
            targets = self.cluster.workers if program == "tidemill-worker" else [self.cluster.coordinator]
            for target in targets:
                self.cluster.arm(target, name, action, 1)
        until = time.monotonic() + EACH_S
        while self.point_counts[name] == before or self.running or self.retry:
            if not self.running and not self.retry:
                if program == "tidemill":
                    self.client_points = [name]  # each attempt, until one has reached it
                work = Work(self.world, self.works, kind, self.rng)
                work.lines = 40_000  # a map with enough results for credit to be given back
                self.running.append(self.begin(work))
                self.works += 1
            self.tend(more=False)
            if time.monotonic() > until:
                break
            time.sleep(0.005)
        if self.point_counts[name] == before:
            self.missed.append(name)
        for target in self.cluster.programs:
            self.cluster.disarm(target)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", required=True)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--state", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("only", nargs="*", help="points that begin so")
    options = parser.parse_args()
    options.tmpfs, options.kinds = False, ""
    each = Each(options, random.Random(options.seed))
    if not each.points:
        sys.exit("these programs have no failpoints: build with TM_FAILPOINTS")
    each.conduct()


if __name__ == "__main__":
    main()
