"""Compares what was submitted with what was delivered. Shares no code with the programs:
digests are Python's, encrypted files are opened by age, the database is read by sqlite3.

lost        an input without a result: in what a client got, or in the database
duplicated  an input with two
stale       a record or a file that is not the attempt's that won: a wrong digest, a file
            that is not the one its record describes, a record that changed
Everything else that should not be (failed tasks, temporaries, files nobody asked for,
processes that are left) is named too. Exit 0 only when there is none of anything.
"""

import argparse
import base64
import collections
import concurrent.futures
import hashlib
import json
import os
import sqlite3
import struct
import subprocess
import sys

import msgpack

OK = 0
LINES_EACH = 8  # of one kind of finding


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(f.read()).hexdigest()


def unescape(name):
    """A name of a GNU manifest whose line began with a backslash."""
    out, at = bytearray(), 0
    while at < len(name):
        if name[at:at + 1] == b"\\":
            out += {b"n": b"\n", b"r": b"\r", b"\\": b"\\"}[name[at + 1:at + 2]]
            at += 2
        else:
            out += name[at:at + 1]
            at += 1
    return bytes(out)


def array(stored, n, step=0):
    """Numbers of the n tasks of a row: all, or the first one of them."""
    numbers = [number for number, in struct.iter_unpack("<I", stored)]
    return [numbers[0] + step * i for i in range(n)] if len(numbers) == 1 else numbers


def manifest(path):
    """(name, digest) of each whole line; a killed client may have left half a line."""
    with open(path, "rb") as f:
        text = f.read()
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        escaped = line[:1] == b"\\"
        digest, name = line[escaped:].split(b"  ", 1)
        yield unescape(name) if escaped else name, digest.decode()


def objects(path):
    with open(path, "rb") as f:
        text = f.read()
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        yield json.loads(line)


def input_of(row):
    return base64.b64decode(row["input_base64"]) if "input_base64" in row else os.fsencode(row["input"])


class Checker:
    def __init__(self, options):
        self.options = options
        self.dir = options.dir
        self.counts = collections.Counter()
        self.lines = []
        self.digests = {}
        self.small = self.tree("small")
        self.mixed = self.tree("mixed")
        self.www = os.path.join(self.dir, "www")
        with open(os.path.join(self.dir, "urls"), encoding="ascii") as f:
            self.urls = {url.strip().encode() for url in f}

    def tree(self, name):
        return {os.path.join(d, n) for d, _, files in os.walk(os.fsencode(os.path.join(self.dir, "data", name)))
                for n in files}

    def find(self, what, text):
        self.counts[what] += 1
        if self.counts[what] <= LINES_EACH:
            self.lines.append(f"{what}: {text}")

    def true_digest(self, source):
        if source not in self.digests:
            self.digests[source] = sha256(self.file_of(source))
        return self.digests[source]

    def file_of(self, source):
        """The file whose bytes an input stands for."""
        if source.startswith(b"http://"):
            return os.path.join(self.www, os.fsdecode(source.rsplit(b"/", 1)[1]))
        return source

    # ---- what clients got ----

    def results(self, name, got, wanted, whole):
        """got: (input, digest) pairs, as delivered to one client."""
        times = collections.Counter()
        for source, digest in got:
            times[source] += 1
            if source not in wanted:
                self.find("extra", f"{name}: a result for {source!r}")
            elif digest is None:
                self.find("failed", f"{name}: {source!r}")
            elif digest != self.true_digest(source):
                self.find("stale", f"{name}: {source!r} is not {digest}")
        self.counts["results"] += len(times)
        for source, n in times.items():
            if n > 1:
                self.find("duplicated", f"{name}: {n} results for {source!r}")
        if whole:
            for source in wanted - times.keys():
                self.find("lost", f"{name}: no result for {source!r}")

    def attempt(self, entry):
        name, kind, whole = entry["name"], entry["kind"], entry["exit"] == 0
        self.counts["attempts"] += 1
        if kind in ("hash", "detached", "removed"):
            if os.path.exists(entry["out"]):
                self.results(name, manifest(entry["out"]), self.small, whole)
        elif kind == "keyed":
            if whole:
                rows = [r for r in objects(entry["journal"]) if "input" in r]
                self.results(name, [(os.fsencode(r["input"]), r["digest"]) for r in rows], self.small, True)
        elif kind == "map":
            self.map(entry, whole)
        else:
            rows = list(objects(entry["out"]))
            pairs = [(input_of(r), r["digests"].get("sha256") if r["status"] == "ok" else None) for r in rows]
            self.results(name, pairs, self.mixed if kind == "encrypt" else self.urls, whole)
            for row in rows:
                if row["status"] != "ok":
                    self.find("failed", f"{name}: {row['input']}: {row['error']}")

    def map(self, entry, whole):
        lines = [f"{entry['name']} {i}" for i in range(entry["lines"])]
        expected = [f"{hashlib.sha256(line.encode()).hexdigest()}  {line}" for line in lines]
        with open(entry["out"], encoding="ascii") as f:
            text = f.read()
        got = text[: text.rfind("\n") + 1].splitlines()
        self.counts["results"] += len(got)
        if got == expected or (not whole and got == expected[: len(got)]):
            return
        times = collections.Counter(got)
        for line, n in times.items():
            if n > 1:
                self.find("duplicated", f"{entry['name']}: {n} times {line!r}")
            if line not in expected:
                self.find("stale", f"{entry['name']}: {line!r}")
        for line in expected if whole else ():
            if line not in times:
                self.find("lost", f"{entry['name']}: {line!r}")
        if got != [line for line in expected if line in times]:
            self.find("stale", f"{entry['name']}: not in the order of its inputs")

    # ---- what the coordinator recorded ----

    def database(self, entries):
        self.db = sqlite3.connect(f"file:{self.options.state}/tidemill.db?mode=ro", uri=True)
        if self.db.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            self.find("damage", "the database")
        journals = {bytes.fromhex(e["key"]): e["journal"] for e in entries if e["kind"] == "keyed"}
        removed = {e["name"].encode() for e in entries if e["kind"] == "removed" and e["exit"] == 0}
        self.outputs = {}
        for row in self.db.execute("SELECT id, key, name, state, tasks FROM job ORDER BY id"):
            self.job(*row, journals)
            if bytes(row[2]) in removed:
                self.find("extra", f"job {row[0]} was removed and is there")

    def body(self, stored, where, size):
        """The bytes of a row: in it, or in a segment."""
        if where is None:
            return stored
        with open(f"{self.options.state}/segment.{where >> 32:08x}", "rb") as f:
            f.seek(where & 0xFFFFFFFF)
            return f.read(size)

    def inputs(self, job):
        found = {}
        for _, first, n, lens, *body in self.db.execute(
                "SELECT id, first, n, lens, body, at, size FROM chunk WHERE id BETWEEN ? AND ? ORDER BY id",
                (job << 32, job << 32 | 0xFFFFFFFF)):
            at, body = 0, self.body(*body)
            for i, length in enumerate(array(lens, n)):
                found[first + i] = msgpack.unpackb(body[at: at + length], unicode_errors="surrogateescape")
                at += length
        return found

    def records(self, job):
        for n, tasks, statuses, lens, cursor, *vals in self.db.execute(
                "SELECT n, tasks, statuses, lens, cursor, vals, at, size FROM batch WHERE job = ? ORDER BY row",
                (job,)):
            at, vals = 0, self.body(*vals)
            for task, status, length in zip(
                    array(tasks, n, 1), statuses * n if len(statuses) == 1 else statuses, array(lens, n)):
                value = vals[at: at + length]
                at += length
                yield task, status, msgpack.unpackb(
                    value, unicode_errors="surrogateescape") if value else {}, cursor

    def job(self, job, key, name, state, n_tasks, journals):
        inputs, seen, by_name = self.inputs(job), collections.Counter(), {}
        label = f"job {job} ({bytes(name).decode()})"
        self.counts["jobs"] += 1
        self.counts["tasks"] += n_tasks
        if len(inputs) != n_tasks:
            self.find("lost", f"{label}: {len(inputs)} inputs of {n_tasks}")
        for task, status, value, cursor in self.records(job):
            seen[task] += 1
            given = inputs.get(task)
            if given is None:
                self.find("extra", f"{label}: a record of task {task}")
                continue
            if cursor is None:
                self.find("lost", f"{label}: task {task} was won and never published")
            elif status != OK:
                self.find("failed", f"{label}: task {task}: {value.get('e')}")
            else:
                self.record(label, given, value)
                by_name[os.fsencode(given.get("n", ""))] = value["d"]["sha256"].hex()
        for task, n in seen.items():
            if n > 1:
                self.find("duplicated", f"{label}: {n} records of task {task}")
        for task in inputs.keys() - seen.keys():
            self.find("lost", f"{label}: no record of task {task} (state {state})")
        if bytes(key) in journals and os.path.exists(journals[bytes(key)]):
            for row in objects(journals[bytes(key)]):
                if "input" in row and by_name.get(os.fsencode(row["input"])) != row["digest"]:
                    self.find("stale", f"{label}: the record of {row['input']!r} changed")

    def record(self, label, given, value):
        source = given.get("p") or given.get("u")
        digest = value["d"]["sha256"].hex()
        if "b" in given:
            right = hashlib.sha256(given["b"]).hexdigest()
        else:
            right = self.true_digest(os.fsencode(source))
        if digest != right:
            self.find("stale", f"{label}: {source!r} is not {digest}")
        if "o" in given:
            stored = value.get("D", {}).get("sha256")
            self.outputs[os.fsencode(given["o"])] = (label, source, stored.hex() if stored else digest)

    # ---- what stands on disk ----

    def files(self, entries):
        there = set()
        for entry in entries:
            for d, _, names in os.walk(os.fsencode(entry["tree"])):
                there |= {os.path.join(d, n) for n in names}
        for path in there - self.outputs.keys():
            self.find("temporary" if b".tm-" in path else "extra", f"{path!r}")
        self.counts["files"] = len(there)
        for path in self.outputs.keys() - there:
            self.find("lost", f"{self.outputs[path][0]}: no file {path!r}")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for wrong in pool.map(self.file, sorted(there & self.outputs.keys())):
                if wrong:
                    self.find("stale", wrong)

    def file(self, path):
        """What is wrong with an output, if anything."""
        label, source, digest = self.outputs[path]
        if sha256(path) != digest:
            return f"{label}: {path!r} is not what its record says"
        if not path.endswith(b".age"):
            return None
        done = subprocess.run(["age", "-d", "-i", os.path.join(self.dir, "identity"), path],
                              capture_output=True, check=False)
        right = self.true_digest(os.fsencode(source))
        if done.returncode == 0 and hashlib.sha256(done.stdout).hexdigest() == right:
            return None
        return f"{label}: {path!r} does not open to {source!r}"

    def processes(self):
        mark = b"TIDEMILL_CAMPAIGN=" + os.fsencode(self.dir)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if mark not in f.read().split(b"\0") or int(pid) == os.getpid():
                        continue
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    self.find("process", f"{pid} is left: {f.read()!r}")
            except OSError:
                continue  # it ended just now, or is not ours

    def run(self):
        with open(os.path.join(self.dir, "ledger"), encoding="ascii") as f:
            entries = [json.loads(line) for line in f]
        for entry in entries:
            self.attempt(entry)
        done = {e["work"] for e in entries if e["exit"] == 0}
        for work in {e["work"] for e in entries} - done:
            self.find("lost", f"{work} never came to its end")
        self.database(entries)
        self.files(entries)
        self.processes()
        return self.report()

    def report(self):
        c = self.counts
        print(f"checked: {c['attempts']} attempts, {c['jobs']} jobs of {c['tasks']} tasks, "
              f"{c['results']} results delivered, {c['files']} files")
        for line in self.lines:
            print(" ", line)
        other = {k: c[k] for k in ("failed", "extra", "temporary", "process", "damage") if c[k]}
        if other:
            print("also:", ", ".join(f"{n} {k}" for k, n in other.items()))
        print(f"lost {c['lost']}, duplicated {c['duplicated']}, stale {c['stale']}")
        return not other and not (c["lost"] or c["duplicated"] or c["stale"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", required=True)
    parser.add_argument("--state", required=True)
    sys.exit(0 if Checker(parser.parse_args()).run() else 1)


if __name__ == "__main__":
    main()
