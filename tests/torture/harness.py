"""Commands of the package in processes of their own, each forked from one server that has imported everything.

A start costs milliseconds in the place of seconds, so that thousands of cases can be tried. What happens in a process
is what `python -m vae_helpers` does: the same `main`, its output in a file, its exit code from the operating system.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PATIENCE_S = 240  # on a busy machine
SETTLED_S = 60
MOST_SECONDS = 10.0  # of processor time, to refuse a file
MOST_MEMORY_MB = 1000  # more than a command that does nothing has
ENVIRONMENT = {"VAE_BUDGET": "smoke", "VAE_OFFLINE": "1", "VAE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
WAY_OUT = re.compile(
    r"\b(add|allowed|at least|at most|between|call|check|choices|choose|convert|copy|delete|divide|draw|drop|expected|"
    r"export|finish|free|give|go on|install|invalid|it has|keep|leave|limit|lower|make|may be|must|name|needs?|"
    r"not possible|one of|only|open|pass|put|raise|remove|rename|repair|replace|run|save|say|see|set|smaller|start|"
    r"stop|take|there are|there is|train|try|unpack|unrecognized|unset|use|wait|write)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class How:
    """What is done to a process.

    Args:
        limits: names of `resource` limits -> value, set before the command. disturb: called in the process before it.
        kill_at: end it at this change of the file system (1: before the first one), by SIGKILL. default_signals: names
            of signals whose default action is wanted. without_rights: root's rights to every file are dropped.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    disturb: Callable[[], None] | None = None
    kill_at: int = 0
    default_signals: tuple[str, ...] = ()
    without_rights: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal), its output, its processor time, memory above the start,
    and the number of changes of the file system that it began (-1 if it was killed)."""

    code: int
    output: str
    seconds: float
    memory_mb: float
    changes: int

    @property
    def last(self) -> str:
        """The last line of the output."""
        return self.output.strip().splitlines()[-1] if self.output.strip() else ""


class Command:
    """A command that runs."""

    def __init__(
        self, *words: object, folder: Path, environment: Mapping[str, str | None] | None = None, how: How | None = None
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._about = folder / f".about-{len(list(folder.glob('.about-*')))}"
        self._about.mkdir()
        given = {**ENVIRONMENT, "VAE_RUNS": str(folder / "runs"), "HOME": str(folder), "XDG_CACHE_HOME": None,
                 "VAE_DATA": str(folder / "data"), "VAE_RELEASED": None, **(environment or {})}  # fmt: skip
        server = _server()
        self._told, tell = server.Pipe(duplex=False)
        arguments = ([str(word) for word in words], given, how or How(), folder, self._about, tell)
        self.process = server.Process(target=_in_a_process, args=arguments)
        self.process.start()
        tell.close()

    @property
    def pid(self) -> int:
        return int(self.process.pid or 0)

    @property
    def output(self) -> str:
        path = self._about / "output"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self, signum: int = signal.SIGKILL) -> None:
        os.kill(self.pid, signum)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until the condition holds or the command has ended."""
        began = time.monotonic()
        while self.process.is_alive() and not condition():
            assert time.monotonic() - began < PATIENCE_S, self.output
            time.sleep(0.002)

    def end(self) -> Ended:
        self.process.join(PATIENCE_S)
        late = self.process.is_alive()
        if late:
            self.process.kill()
            self.process.join()
        assert not late, f"it did not end within {PATIENCE_S} s: {self.output[-2000:]}"
        seconds, memory, changes = -1.0, -1.0, -1
        with contextlib.suppress(EOFError, OSError):  # killed
            seconds, memory, changes = self._told.recv()
        self._told.close()
        return Ended(self.process.exitcode or 0, self.output, seconds, memory, changes)


def run(*words: object, **options: Any) -> Ended:
    """A command from its start to its end; see `Command`."""
    return Command(*words, **options).end()


def succeeds(*words: object, **options: Any) -> Ended:
    """A command that must work."""
    ended = run(*words, **options)
    assert ended.code == 0, ended.output
    return ended


def refused(ended: Ended, *names: object) -> None:
    """One sentence that names what is wrong and the way out, an exit code that says so, little time and memory.

    Args:
        names: words of which the sentence must have one; none to ask for no name.
    """
    at_a_loss = f"exit code {ended.code}, {ended.seconds:.1f} s, {ended.memory_mb:.0f} MB\n{ended.output[-3000:]}"
    assert "Traceback" not in ended.output, at_a_loss
    assert ended.code in (1, 2), at_a_loss
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", ended.output).split())
    sentence = text[text.rfind("error:") :] if "error:" in text else text[-600:]
    assert len(sentence) > 10, at_a_loss
    found = any(str(name) in sentence or str(name) in text for name in names) or not names
    assert found, f"none of {[str(n)[:80] for n in names]} is named: {at_a_loss}"
    assert WAY_OUT.search(sentence), f"no way out is said: {at_a_loss}"
    assert len(sentence) < 3000, f"a sentence of {len(sentence)} characters: {at_a_loss}"
    frugal(ended)


def frugal(ended: Ended) -> None:
    """It took little time and memory."""
    assert ended.seconds < MOST_SECONDS, f"{ended.seconds:.1f} s\n{ended.output[-2000:]}"
    assert ended.memory_mb < MOST_MEMORY_MB, f"{ended.memory_mb:.0f} MB\n{ended.output[-2000:]}"


def contents(folder: Path, *patterns: str, history: bool = True) -> dict[str, str]:
    """Hashes of the files of a folder by their names; records without what no two runs share.

    Without ``history``, what was measured along the way is left out: a run that was stopped has a row more.
    """
    found = {}
    for path in sorted(p for pattern in patterns or ("**/*",) for p in folder.glob(pattern) if p.is_file()):
        content = path.read_bytes()
        if path.name == "run.json":
            record = json.loads(content)
            kept = {key: record[key] for key in ("study", "config", "seed", "steps", "metrics", "data_sha256")}
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in record["history"]["rows"]]
            along = [rows, record["history"]["evals"]] if history else []
            content = json.dumps([kept, along]).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def whole(folder: Path) -> None:
    """No file of a run folder is half written under its final name."""
    import safetensors.torch

    for path in folder.rglob("*"):
        if path.name in ("run.json", "split.json"):
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            safetensors.torch.load(path.read_bytes())
        elif path.name == "checkpoint.pt":
            content = path.read_bytes()
            assert hashlib.sha256(content[32:]).digest() == content[:32], f"{path} is half written"


def tidy(folder: Path) -> None:
    """Nothing temporary is left in a folder."""
    left = [str(path) for path in folder.rglob("*.part")]
    assert not left, f"left behind: {left}"


def of_session(session: int) -> list[int]:
    """The processes of a session that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if entry.name.isdigit():
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(of) == session and state != "Z":
                    found.append(int(entry.name))
    return found


def nobody_left(session: int) -> None:
    """Wait until no process of a session is alive."""
    began = time.monotonic()
    while left := of_session(session):
        if time.monotonic() - began > SETTLED_S:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"processes {left} are alive {SETTLED_S} s after the end")
        time.sleep(0.05)


@contextlib.contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[None]:
    """Make every file of this process and its children end at ``n_bytes``: what a full disk does to one that grows."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


_context: Any = None


def _server() -> Any:
    global _context
    if _context is None:
        # the server and its forks must find this module and the package
        sys.path[:0] = [p for p in (str(HERE), str(HERE.parents[1])) if p not in sys.path]
        os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        _context = multiprocessing.get_context("forkserver")
        _context.set_forkserver_preload(["preloaded"])
    return _context


def _in_a_process(
    words: list[str], environment: Mapping[str, str | None], how: How, folder: Path, about: Path, tell: Any
) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing outlives the tests
    out = os.open(about / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for key, value in environment.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
    os.chdir(folder)
    sys.argv = ["python -m vae_helpers", *words]
    changes = _counted(folder, how.kill_at)
    for name in how.default_signals:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    if how.disturb is not None:
        how.disturb()
    for name, value in how.limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        if name == "AS":  # above what is mapped already
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            value += pages * resource.getpagesize()
        resource.setrlimit(number, (value, value))
    if how.without_rights:
        _drop_capabilities()
    began_cpu, began_memory = time.process_time(), _rss_mb()
    try:
        from vae_helpers.__main__ import main

        main()
    finally:
        sys.stdout.flush()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 - began_memory
        tell.send((time.process_time() - began_cpu, memory, changes[0]))


def _drop_capabilities() -> None:
    """As root: obey the rights of files, as every other user does; what root owns stays readable."""
    head, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # version 3, this thread
    if ctypes.CDLL(None, use_errno=True).capset(head, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _counted(folder: Path, kill_at: int) -> list[int]:
    """Count what begins to change files below a folder, and end the process at the change of this number."""
    changes = [0]
    inside = str(folder)
    cut = len(inside)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate"):
            path = arguments[0]
        else:
            return
        try:
            name = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        except TypeError:
            return
        if not name.startswith(inside) or name[cut:].startswith("/.about"):
            return
        changes[0] += 1
        if changes[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return changes


def copy(source: Path, target: Path) -> Path:
    """A copy of a folder, without what `Command` keeps."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".about-*"))
    return target
