#!/bin/sh
# Prints a Python that can build the virtual environments: at least 3.11, with venv and ensurepip.
# Usage: sh tools/find_python.sh [PYTHON]; a PYTHON that is given is the only one tried.

if [ -n "$1" ]; then
    candidates=$1
else
    candidates="python3.11 python3"
fi

for python in $candidates; do
    path=$(command -v "$python") || continue
    # A shim of a version manager may be on the path and still not run.
    version=$("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if ! "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        found="$found
  $path is Python $version; at least 3.11 is needed."
    elif ! "$path" -c 'import venv, ensurepip' 2>/dev/null; then
        found="$found
  $path has no venv module. On Debian and Ubuntu: apt-get install python$version-venv"
    else
        echo "$path"
        exit 0
    fi
done

echo "No suitable Python. Tried: $candidates.$found" >&2
echo "Install Python 3.11 or later, or name one: make PYTHON=/path/to/python3.11 ..." >&2
exit 1
