"""Commands on this machine: content on standard input, an answer on standard output, within a time."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from tempfile import TemporaryFile

from nas.records.run_folder import RunFailed

ANSWER = 1 << 20  # bytes that a command may print


def commanded(command: Sequence[str], content: bytes, timeout: float) -> bytes:
    """What `command` prints when given `content` on standard input.

    Raises RunFailed where it cannot be run, ends with an error, prints without end, or has not ended after `timeout`
    seconds.
    """
    shown = shlex.join(command) if len(shlex.join(command)) < 200 else command[0]
    # Files, not pipes: what the command starts and leaves behind cannot hold them open.
    with TemporaryFile() as source, TemporaryFile() as out, TemporaryFile() as err:
        source.write(content)
        source.seek(0)
        try:
            # A session of its own: a Ctrl-C is for nas, and what the command starts ends with it.
            process = subprocess.Popen(command, stdin=source, stdout=out, stderr=err, start_new_session=True)
        except OSError as error:
            raise RunFailed(f"{shown} cannot be run: {error.strerror}") from None
        deadline = time.monotonic() + timeout
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, min(0.1, deadline - time.monotonic())))
                if max(os.fstat(file.fileno()).st_size for file in (out, err)) > ANSWER:
                    raise RunFailed(f"{shown} printed more than {ANSWER:,} bytes, an answer is one line of JSON")
                if process.poll() is None and time.monotonic() > deadline:
                    raise RunFailed(f"{shown} gave no answer within {timeout:g} s; is the device there?")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            err.seek(0)
            last = "".join(err.read().decode(errors="replace").strip().splitlines()[-1:])
            raise RunFailed(f"{shown} ended with {process.returncode}: {last[:500] or 'no message'}")
        out.seek(0)
        return out.read()
