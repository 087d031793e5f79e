"""A client that is killed and comes back with its key and its cursor (P5).

Hashes the files named on standard input (NUL-ended), sent as bytes. Records go to a
journal, each page followed by the cursor after it; whoever starts it again with the same
journal goes on after the last cursor that was written whole.
"""

import argparse
import json
import os
import sys

import msgpack
import protocol_client as pc


class Journal:
    def __init__(self, path):
        self.cursor, end, at = 0, 0, 0
        self.file = open(path, "a+b")
        self.file.seek(0)
        for line in self.file:
            at += len(line)
            if line.startswith(b'{"cursor":') and line.endswith(b"\n"):
                self.cursor, end = json.loads(line)["cursor"], at
        self.file.truncate(end)

    def write(self, record):
        self.file.write(json.dumps(record).encode() + b"\n")

    def page(self, cursor):
        self.write({"cursor": cursor})
        self.file.flush()


class KeyedJob(pc.HashJob):
    def __init__(self, names, options):
        super().__init__(names, options)
        self.journal = Journal(options.journal)
        self.cursor = self.journal.cursor

    def _print(self, name, status, value):
        digest = msgpack.unpackb(value)["d"]["sha256"].hex() if status == pc.OK else None
        self.journal.write({"input": os.fsdecode(name), "status": status, "digest": digest})

    def _results(self, session, results, body):
        super()._results(session, results, body)
        if results.next_cursor == self.cursor:
            self.journal.page(self.cursor)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("endpoint")
    parser.add_argument("journal")
    parser.add_argument("--key", required=True)
    options = parser.parse_args()
    options.inline, options.task_order, options.node = True, False, ""
    options.drop = options.leave = options.cancel = False
    names = [name for name in sys.stdin.buffer.read().split(b"\0") if name]
    job = KeyedJob(names, options)
    try:
        pc.keep_talking(pc.Identity(options.endpoint), job.talk)
    except pc.Refused as refused:
        sys.exit(f"keyed: {refused}")
    print(json.dumps({"job": job.job.job}))


if __name__ == "__main__":
    main()
