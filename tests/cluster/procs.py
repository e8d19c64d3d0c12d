"""Processes by id and start time. An id alone may have passed to a stranger; the pair never does."""

import os
import select
import shutil
import signal
import time

# Seconds between SIGTERM and SIGKILL. Short: an API server may wait long for the watches of tests, for data that
# nobody will read.
GRACE = 2.0


def start_time(pid):
    """Start of the process in clock ticks since boot, or None when it is gone. A zombie counts as gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            stat = f.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name may hold blanks and parentheses: count the fields from its closing one.
    fields = stat[stat.rindex(b")") + 2:].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def alive(pid, start):
    return start_time(pid) == start


def send(pid, start, sig):
    """Signals exactly this process. The pidfd pins it between the look and the signal."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if alive(pid, start):
            signal.pidfd_send_signal(fd, sig)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def wait_gone(pid, start, seconds):
    """Waits until the process is gone; False when it outlived the deadline."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if not alive(pid, start):
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else max(0, int(seconds * 1000))))
    finally:
        os.close(fd)


def read_pids(folder):
    """[(name, pid, start)] of D/pids, in order of starting."""
    found = []
    try:
        with open(os.path.join(folder, "pids")) as f:
            for line in f:
                parts = line.split()
                if len(parts) == 3:
                    found.append((parts[0], int(parts[1]), int(parts[2])))
    except FileNotFoundError:
        pass
    return found


def stop_all(folder, grace=GRACE, without=()):
    """Ends what D/pids lists; returns the names that had to be killed."""
    pids = [p for p in read_pids(folder) if p[0] not in without]
    killed = []
    # Clients before servers: an API server waits for its open watches, and a controller manager
    # whose API server is gone first fills its log with complaints.
    for stage in (("watchdog",), ("hpalite", "kube-controller-manager", "prometheus", "exporter"), ("kube-apiserver",), None):
        now = [p for p in pids if stage is None or p[0] in stage]
        for _, pid, start in now:
            send(pid, start, signal.SIGTERM)
        deadline = time.monotonic() + grace
        for name, pid, start in now:
            if not wait_gone(pid, start, deadline - time.monotonic()):
                killed.append(name)
                send(pid, start, signal.SIGKILL)
                wait_gone(pid, start, 10)
    # Logs and certificates stay for whoever looks for a cause; the data is large and of no use alone.
    for data in ("etcd", "prometheus"):
        shutil.rmtree(os.path.join(folder, data), ignore_errors=True)
    return killed
