"""The firmware on CPython, for platforms without a MicroPython wheel: each bin in a child process of its own.

Same protocol as zygote.py. The stand-ins are the same files; what only MicroPython has (`cryptolib`, `vfs`, its way
with files and TLS) is put in their place here. The heap figure means nothing on CPython and is told as 0.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback


def main(fd: int) -> None:
    from brim_tools.virtual import cpython_runtime

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=fd)
    while True:
        data, fds, _, _ = socket.recv_fds(control, 65536, 4)
        if not data:
            return
        job = json.loads(data)
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                control.close()
                requests, answers, stdin, stdout = fds
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.setsid()
                for source, target in ((requests, 201), (answers, 200), (stdin, 0), (stdout, 1), (stdout, 2)):
                    os.dup2(source, target)
                code = cpython_runtime.run(job["env"])
            except BaseException:  # noqa: BLE001 - the last line of a child: whatever it was goes to the bin's console
                traceback.print_exc()
            finally:
                os._exit(code)
        for child_fd in fds:
            os.close(child_fd)
        control.send(str(pid).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
