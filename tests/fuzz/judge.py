"""One damaged file, tried: opened soundly, or refused with one sentence, soon and at little memory."""

import contextlib
import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST, SECONDS, MEGABYTES = 300, 1.0, 300
SLOWEST = 8.0  # for what is opened in the end


@dataclass(frozen=True)
class Verdict:
    """What became of a case; `fault` is empty if all is well."""

    case: str
    fault: str
    refused: bool
    message: str = ""


def complain(error, path):
    """What is wrong with a refusal."""
    # By name, since inside the host the package goes by another one.
    if "AdaDiffSRError" not in [kind.__name__ for kind in type(error).__mro__]:
        return f"{type(error).__name__}: {error}"[:300]
    message = str(error).replace(str(path), "FILE").replace(str(path.parent), "FOLDER")
    if _UNSAFE.search(message):
        return f"a message with control characters: {message!r}"
    return f"a message of {len(message)} characters: {message}" if len(message) > LONGEST else ""


def attempt(read, path, *, opens_slowly=False):
    """The error of a reader, or None, and what is wrong with it, or with what it took."""
    memory, start = restart_peak_mb(), time.process_time()
    try:
        read()
    except Exception as caught:
        error, fault = caught, complain(caught, path)
    else:
        error, fault = None, ""
    seconds, grown = time.process_time() - start, peak_mb() - memory
    if error is None and opens_slowly:
        return error, f"{seconds:.1f} s" if seconds > SLOWEST else fault
    if not fault and seconds > SECONDS:
        fault = f"{seconds:.1f} s"
    if not fault and grown > MEGABYTES:
        fault = f"{grown:.0f} MB"
    return error, fault


def try_case(subject, sound, seed, number):
    """Damage the subject's file by `(seed, number)` and read it."""
    name, data = subject.mutate(sound, np.random.default_rng([seed, number]))
    subject.path.write_bytes(data)
    opens_slowly = getattr(subject, "opens_slowly", False)
    error, fault = attempt(subject.read, subject.path, opens_slowly=opens_slowly)
    for other in subject.read_others():
        other_error, other_fault = attempt(other, subject.path, opens_slowly=opens_slowly)
        fault = fault or other_fault
        if not fault and type(subject).__name__ == "HostBundle" and error is None and other_error is not None:
            fault = f"opened in silence; the command line says: {other_error}"
    return Verdict(f"{number} {name}", fault, error is not None, str(error or ""))


def restart_peak_mb():
    """Memory that is resident now, from where on `peak_mb` counts, if the system can be told so."""
    with contextlib.suppress(OSError):  # then an earlier peak hides lower ones
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def peak_mb():
    """The most memory that was resident; not `ru_maxrss`, which a process inherits of the one that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
