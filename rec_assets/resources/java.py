"""Check for a Java that Spark can use, before anything is installed or started.

Uses only the standard library: the Makefile runs this file before there is a virtual environment.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HOW_TO_GET_IT = (
    "Install it (Debian/Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17) "
    "or set JAVA_HOME to one you have."
)


class JavaMissing(RuntimeError):
    """No usable Java; the message is one line with the problem, the searched location and what to do."""


def require_java(minimum: int = 17) -> int:
    """Check that Spark finds a Java of at least this major version.

    Searches like Spark: only `JAVA_HOME/bin/java` if `JAVA_HOME` is set, else `PATH`.

    Args:
        minimum: Lowest major version. Spark 4 needs 17.

    Returns:
        The major version found, e.g. 17 for "17.0.15" and 8 for "1.8.0_402".

    Raises:
        JavaMissing: there is no Java, it does not run, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java") if home else "java")
    looked = f"JAVA_HOME is {home}" if home else "looked on PATH, JAVA_HOME is not set"
    if java is None:
        missing = "which has no bin/java" if home else "found no java"
        raise JavaMissing(f"Java {minimum} or newer is missing ({looked}, {missing}). {HOW_TO_GET_IT}")

    version = _version_text(java)
    major = parse_major(version)
    if major is None:
        output = " ".join(version.split())[:120] or "nothing"
        raise JavaMissing(
            f"Java {minimum} or newer is missing: {java} doesn't work, `-version` printed: {output} ({looked}). "
            f"{HOW_TO_GET_IT}"
        )
    if major < minimum:
        raise JavaMissing(f"Java {minimum} or newer is needed, but {java} is Java {major} ({looked}). {HOW_TO_GET_IT}")
    return major


def parse_major(version: str) -> int | None:
    """The major version in the output of `java -version`; None if it has none.

    >>> parse_major('openjdk version "17.0.15" 2025-04-15')
    17
    >>> parse_major('java version "1.8.0_402"')
    8
    >>> parse_major('openjdk version "25-ea" 2025-09-16')
    25
    """
    found = re.search(r'version "(?:1\.)?(\d+)', version)
    return int(found.group(1)) if found else None


def _version_text(java: str) -> str:
    """The output of `java -version` (on stderr), or why it could not run."""
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr + done.stdout


if __name__ == "__main__":
    try:
        require_java()
    except JavaMissing as error:
        sys.exit(str(error))
