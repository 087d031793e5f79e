#!/usr/bin/env python3
"""Power losses at many points of a coordinator's life.

A real coordinator works for a client that logs what it is promised, while diskshim.so records
every change and every sync of its state directory. Then, for points of that record, the
directory is made as a power loss there could have left it: what was not synced is there, gone or
torn, sector by sector; new names are there only as far as their directory was synced. On each a
coordinator must start, `check` must find no damage, and every promise made before must hold.
"""
import argparse
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

RECORD = struct.Struct("<QQQIIII")
CREATE, WRITE, TRUNCATE, SYNC, SYNC_DIR, RENAME, UNLINK = range(1, 8)


def read_log(path):
    """[(time, op, file, offset, name, data)], in the order of the changes."""
    records = []
    with open(path, "rb") as f:
        whole = f.read()
    at = 0
    while at + RECORD.size <= len(whole):
        when, file, offset, op, name_len, data_len, _ = RECORD.unpack_from(whole, at)
        at += RECORD.size
        name = whole[at:at + name_len].decode()
        at += name_len
        records.append((when, op, file, offset, name, whole[at:at + data_len]))
        at += data_len
    return records


class File:
    def __init__(self):
        self.durable = bytearray()
        self.pending = []  # (op, offset, data)

    def sync(self):
        for op, offset, data in self.pending:
            change(self.durable, op, offset, data)
        self.pending.clear()

    def after_loss(self, rng, sector, keep):
        """What may be found: of each change that was not synced, any part of its sectors."""
        image = bytearray(self.durable)
        for op, offset, data in self.pending:
            if op == TRUNCATE:
                if rng.random() < keep:
                    change(image, op, offset, data)
                continue
            at = 0
            while at < len(data):
                end = min(len(data), (offset + at) // sector * sector + sector - offset)
                if rng.random() < keep:
                    change(image, WRITE, offset + at, data[at:end])
                at = end
        return image


def change(image, op, offset, data):
    if op == TRUNCATE:
        del image[offset:]
        image.extend(bytes(offset - len(image)))
        return
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset:offset + len(data)] = data


class Disk:
    """The state directory as it is, and as it is known to be on the disk."""

    def __init__(self):
        self.files = {}  # inode -> File
        self.names = {}  # on disk: name -> File
        self.now = {}  # as programs see it
        self.pending = []  # changes of names: (op, name, File or other name)

    def apply(self, record):
        _, op, inode, offset, name, data = record
        if op == CREATE:
            self.files[inode] = File()
            self._name(CREATE, name, self.files[inode])
        elif op in (WRITE, TRUNCATE):
            self.files[inode].pending.append((op, offset, data))
        elif op == SYNC:
            self.files[inode].sync()
        elif op == SYNC_DIR:
            for change_of_name in self.pending:
                rename(self.names, *change_of_name)
            self.pending.clear()
        elif op == RENAME:
            self._name(RENAME, name, data.decode())
        elif op == UNLINK:
            self._name(UNLINK, name, None)

    def _name(self, *what):
        rename(self.now, *what)
        self.pending.append(what)

    def write_out(self, to, rng):
        sector = rng.choice((512, 4096))
        keep = rng.choice((0.0, 0.5, 0.9, 1.0))
        names = dict(self.names)
        for what in self.pending[:rng.randint(0, len(self.pending))]:
            rename(names, *what)
        os.mkdir(to, 0o700)
        for name, file in names.items():
            with open(os.path.join(to, name), "wb") as f:
                f.write(file.after_loss(rng, sector, keep))


def rename(names, op, name, other):
    if op == CREATE:
        names[name] = other
    elif op == RENAME:
        if name in names:
            names[other] = names.pop(name)
    else:
        names.pop(name, None)


class Programs:
    def __init__(self, args, work):
        self.bin, self.work = args.bin, work
        self.shim = os.path.join(args.lib, "diskshim.so")
        self.client = os.path.join(args.bin, "powerloss-client")

    def coordinator(self, state, name, **env):
        """Starts one; returns it and its endpoint once it listens."""
        ready, theirs = os.pipe()
        endpoint = f"ipc://{self.work}/{name}"
        log = open(os.path.join(self.work, name + ".err"), "wb")
        process = subprocess.Popen(
            [os.path.join(self.bin, "tidemill-coordinator"), "--listen", endpoint, "--state", state,
             "--ready-fd", str(theirs)],
            env={**os.environ, **env}, stderr=log, pass_fds=[theirs])
        os.close(theirs)
        with os.fdopen(ready) as f:
            if not f.readline():
                process.wait()
                with open(log.name, encoding="utf-8", errors="replace") as text:
                    raise RuntimeError("the coordinator does not start: " + text.read().strip())
        return process, endpoint

    def worker(self, endpoint):
        return subprocess.Popen(
            [os.path.join(self.bin, "tidemill-worker"), "--join", endpoint, "--procs", "2",
             "--name", "w"], stderr=subprocess.DEVNULL)

    def check(self, state):
        done = subprocess.run([os.path.join(self.bin, "tidemill-coordinator"), "check", "--state",
                               state], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError("check: " + done.stdout + done.stderr)


def end(process, how=signal.SIGTERM):
    process.send_signal(how)
    process.wait()


def record_life(programs, work, seed, jobs):
    state = os.path.join(work, "state")
    log = os.path.join(work, "disk.log")
    coordinator, endpoint = programs.coordinator(
        state, "life", LD_PRELOAD=programs.shim, TM_SHIM_DIR=state, TM_SHIM_LOG=log,
        ASAN_OPTIONS="verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", ""))
    worker = programs.worker(endpoint)
    promises = os.path.join(work, "promises")
    try:
        subprocess.run([programs.client, "load", endpoint, promises, str(seed), str(jobs)],
                       check=True)
    finally:
        end(coordinator, signal.SIGKILL)
        end(worker)
    return read_log(log), promises


def try_point(programs, work, disk, number, when, promises, rng):
    state = os.path.join(work, f"point{number}")
    disk.write_out(state, rng)
    if os.path.exists(os.path.join(state, "tidemill.db")) and \
            os.path.getsize(os.path.join(state, "tidemill.db")) > 0:
        try:
            programs.check(state)
        except RuntimeError as err:
            if "database is empty" not in str(err):
                raise
    coordinator, endpoint = programs.coordinator(state, f"point{number}.s")
    try:
        subprocess.run([programs.client, "verify", endpoint, promises, str(when)], check=True,
                       timeout=60)
    finally:
        end(coordinator)
    programs.check(state)
    shutil.rmtree(state)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--lib", required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    programs = Programs(args, args.dir)
    records, promises = record_life(programs, args.dir, args.seed, args.jobs)
    print(f"seed {args.seed}: {len(records)} changes, "
          f"{sum(r[1] == SYNC for r in records)} syncs, {sum(len(r[5]) for r in records) >> 20} MiB")
    # Half of the points anywhere, half just before or after a sync.
    syncs = [i for i, r in enumerate(records) if r[1] in (SYNC, SYNC_DIR)]
    points = sorted([rng.randrange(1, len(records)) for _ in range(args.points - args.points // 2)]
                    + [min(len(records) - 1, max(1, rng.choice(syncs) + rng.randint(0, 1)))
                       for _ in range(args.points // 2)])
    disk, at, failed = Disk(), 0, 0
    for number, point in enumerate(points):
        while at < point:
            disk.apply(records[at])
            at += 1
        try:
            try_point(programs, args.dir, disk, number, records[point][0], promises, rng)
        except (RuntimeError, subprocess.SubprocessError) as err:
            failed += 1
            print(f"point {number}, before change {point}: {err}", file=sys.stderr)
    print(f"{args.points} power losses, {failed} with a broken promise")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
