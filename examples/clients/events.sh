#!/bin/sh
# Records what a program prints as one request of one run: each line of it is a token, there when it is printed.
#   ./my-model "Once upon a time" | ./events.sh SOCKET MODEL
# Start `telemetry collect --listen` first; it says where SOCKET is. Needs nc with -U and -N (OpenBSD's netcat).
# The model's name and the lines are not escaped: the name must hold no quote or backslash. The collector's answers
# are printed, and the exit code is 1 where one of them is an error, or the collector went away.
set -eu
socket=$1 model=$2

events() {
    printf '{"event":"run_start","run":"r","model":"%s","runner":"shell"}\n' "$model"
    printf '{"event":"request_start","run":"r","request":1}\n'
    while IFS= read -r _; do
        printf '{"event":"token","run":"r","request":1}\n'
    done
    printf '{"event":"request_end","run":"r","request":1}\n'
    printf '{"event":"run_stop","run":"r"}\n'
}

answers=$(events | nc -N -U "$socket")
printf '%s\n' "$answers"
case $answers in
*'"error"'*) exit 1 ;;
*'"ok"'*'"ok"'*) ;;  # the run was begun, and it was stopped
*) exit 1 ;;
esac
