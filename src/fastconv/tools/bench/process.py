"""The parent's side of an engine's process: started once, asked in turn, stopped while others are measured."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading

from fastconv.tools.bench.engines import Engine, is_installed

__all__ = ["EngineError", "EngineProcess"]

# glibc: freed memory stays with the process.  By default what a large call allocates and frees is either kept or
# fetched anew page by page, on every call, depending on what the process did before; that can double a time.
WARM_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
SECONDS_TO_ANSWER = 180
SECONDS_TO_END = 5
MOST_OF_A_REASON = 300


class EngineError(Exception):
    """The engine did not do what it was asked: `status` is refused, failed or absent, the message says why."""

    def __init__(self, status: str, reason: str):
        super().__init__(reason[:MOST_OF_A_REASON])
        self.status = status


class EngineProcess:
    """One engine with a fixed number of threads.

    Between requests the process is stopped: some engines' threads go on spinning after a call.  After a crash or a
    request that took too long, the next request starts a new process.
    """

    def __init__(self, engine: Engine, threads: int, isa: str = ""):
        self.engine, self.threads, self.isa = engine, threads, isa
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the process, if it does not run yet, without waiting: several may import their libraries at a time."""
        if self._process is None and is_installed(self.engine):
            self._start()

    def ask(self, do: str, timeout: float = SECONDS_TO_ANSWER, **arguments) -> dict:
        """The worker's answer to a request; raises :class:`EngineError` instead where there is none."""
        if self._process is None:
            if not is_installed(self.engine):
                raise EngineError("absent", f"{self.engine.library} is not installed")
            self._start()
        self._signal("SIGCONT")
        try:
            self._process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=timeout)
        except (queue.Empty, BrokenPipeError) as error:
            reason = self._death() if isinstance(error, BrokenPipeError) else f"no answer within {timeout:.0f} s"
            self.close(kill=True)
            raise EngineError("failed", reason) from None
        if not line:
            reason = self._death()
            self.close(kill=True)
            raise EngineError("failed", reason)
        self._signal("SIGSTOP")
        answer = json.loads(line)
        for status in ("refused", "failed"):
            if status in answer:
                raise EngineError(status, answer[status])
        return answer

    def close(self, kill: bool = False) -> None:
        """End the process; it may be started again by the next request."""
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        elif hasattr(signal, "SIGCONT"):
            process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._errors.close()

    def _start(self) -> None:
        count = str(self.threads)
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "FASTCONV_NUM_THREADS")
        environment = WARM_ALLOCATOR | os.environ | dict.fromkeys(variables, count)
        if self.isa:
            environment["FASTCONV_ISA"] = self.isa
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastconv.tools.bench.worker", self.engine.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which ends its workers itself
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout, self._lines), daemon=True).start()

    @staticmethod
    def _read(stream, lines) -> None:
        for line in stream:
            lines.put(line)
        lines.put("")

    def _signal(self, name: str) -> None:
        if hasattr(signal, name):
            self._process.send_signal(getattr(signal, name))

    def _death(self) -> str:
        """Why the process ended: its signal or exit status, and the last line it printed."""
        try:
            status = self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            status = None
        how = f"killed by {signal.Signals(-status).name}" if status and status < 0 else f"ended with status {status}"
        self._errors.seek(0)
        printed = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"the process was {how}" + (f": {printed[-1].strip()}" if printed else "")
