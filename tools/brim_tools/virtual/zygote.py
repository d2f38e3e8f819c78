"""A small process that does nothing but fork interpreters: 0.6 ms each, against 12 ms for a start from cold.

Run as a script by `Zygote` in interpreter.py with one end of a socket pair. A request is one JSON object with the
file descriptors beside it (requests, answers, stdin, stdout); the reply is the child's process id. It must import
nothing large, for a fork copies the page tables of all that it holds.
"""

import json
import os
import signal
import socket
import sys

REQUEST_FD = 201
ANSWER_FD = 200


def main(fd: int) -> None:
    import micropython_module

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
            try:
                control.close()
                _become(job, fds, micropython_module.run_main)
            finally:
                os._exit(99)
        for child_fd in fds:
            os.close(child_fd)
        control.send(str(pid).encode())


def _become(job: dict, fds: list, run_main) -> None:  # type: ignore[no-untyped-def,type-arg]
    requests, answers, stdin, stdout = fds
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.setsid()
    if job["tty"]:
        import fcntl
        import termios

        fcntl.ioctl(stdin, termios.TIOCSCTTY, 0)
        settings = termios.tcgetattr(stdin)
        settings[1] &= ~termios.OPOST
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(stdin, termios.TCSANOW, settings)
    for source, target in ((requests, REQUEST_FD), (answers, ANSWER_FD), (stdin, 0), (stdout, 1), (stdout, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(job["env"])
    os._exit(run_main(job["argv"]) & 255)


if __name__ == "__main__":
    main(int(sys.argv[1]))
