#!/bin/bash
# Records what a build of azsreg leaves on a disk: a lab's data directory, and a state directory made against that lab.
#
#   make.sh AZSREG WORK      AZSREG: the build to record; WORK: a directory that is made, such as /tmp/recorded
#
# WORK/data-dir and WORK/state are what is kept beside this script. See README.md.
set -euo pipefail
azsreg=$1 work=$2
mkdir "$work"
cd "$work"
for name in "${!AZSREG_@}"; do unset "$name"; done
export AZSREG_STATE_DIR=$work/state USER=operator
exec </dev/null
up() {
    rm -f lab.json
    "$azsreg" lab up --state-dir "$work/lab" --data-dir "$work/data-dir" --seed 19 --time-scale 1000 \
        --stamp name=stamp1,tenants=1 --stamp name=stamp2,tenants=0 --stamp name=stamp3,tenants=0 \
        --stamp name=stamp4,tenants=0,connected=no,identity=adfs >lab.json 2>lab.log &
    lab=$!
    until grep -qs control_endpoint lab.json; do sleep 0.1; done
}
trap 'kill $lab 2>/dev/null || true' EXIT
up
control=$(sed -E 's/.*"control_endpoint":"([^"]*)".*/\1/' lab.json)
at() {
    for name in "${!AZSREG_@}"; do [ "$name" = AZSREG_STATE_DIR ] || unset "$name"; done
    eval "$("$azsreg" lab env --state-dir "$work/lab" --stamp "$1")"
}

# stamp1: registered, then changed. Its usage is uploaded and billed, as far as a day.
at stamp1
"$azsreg" login
"$azsreg" register --billing-model pay-as-you-use
"$azsreg" set --marketplace off

# stamp2: registered; an unregister is killed after the deactivation, while Azure is asked to delete the lock.
at stamp2
"$azsreg" register --billing-model capacity --agreement-number 1234567
curl -sS -o faults.json -X POST "$control/faults" \
    -d '{"when": {"plane": "arm", "method": "DELETE", "route": "locks"}, "then": {"hang": true}}'
"$azsreg" unregister --yes &
killed=$!
until grep -qs '"event":"started","step":"unlock"' state/journals/*/*-unregister.jsonl; do sleep 0.1; done
sleep 1
kill -KILL $killed
wait $killed || true
curl -sS -o faults.json -X DELETE "$control/faults"

# stamp3: registered from another machine, and adopted on this one.
at stamp3
AZSREG_STATE_DIR=$work/other "$azsreg" login
AZSREG_STATE_DIR=$work/other "$azsreg" register --billing-model capacity --agreement-number 7654321
"$azsreg" adopt

# stamp4: disconnected; its registration token is in a file.
at stamp4
"$azsreg" offline token --billing-model capacity --agreement-number 333 --out "$work/token"

"$azsreg" lab clock advance 26h --state-dir "$work/lab"
for _ in $(seq 100); do [ "$(wc -l <data-dir/usage.jsonl)" -lt 24 ] || break; sleep 0.1; done
kill -TERM $lab
wait $lab
# Smaller, and then once more, killed: the last of it is in the write-ahead log.
sqlite3 data-dir/lab.sqlite 'PRAGMA wal_checkpoint(TRUNCATE); VACUUM;' >/dev/null
up
"$azsreg" lab clock advance 1m --state-dir "$work/lab"
kill -KILL $lab
wait $lab || true
ls -lR data-dir state
