#!/bin/sh
# Makes the virtual environment named by $1, or accepts the one that is there when it serves.
set -eu
venv=$1

serves='import sys, pip; sys.exit(sys.version_info < (3, 11))'
if [ -e "$venv" ]; then
    "$venv/bin/python" -c "$serves" 2>/dev/null && exit 0
    echo "$venv does not hold Python 3.11 or newer with pip. Remove it (make clean) and run make again." >&2
    exit 1
fi

# Running each candidate is the only test: a version manager's python3.12 may exist and still refuse to run.
for python in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    echo "Making $venv with $("$python" --version)."
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        echo "$python cannot make virtual environments: its venv or ensurepip module is missing." \
            "Install it (on Debian and Ubuntu: apt-get install python3-venv) and run make again." >&2
        exit 1
    fi
    exit 0
done
echo "Python 3.11 or newer is needed, and none of ${PYTHON:-python3, python3.11 … python3.14} is one" \
    "(python3 here: $(python3 --version 2>&1 || true)). Install one, or say where it is: make PYTHON=/path/to/python3." >&2
exit 1
