#!/usr/bin/env bash
# A SLURM cluster of one node, this machine, without an accounting database: for trying the batch on one.
#
#   tests/slurm_node.sh start FOLDER     starts munged, slurmctld and slurmd; sbatch, squeue and
#                                        `make book EXECUTOR=slurm` then use this cluster
#   tests/slurm_node.sh stop FOLDER
#
# Everything it makes lies in FOLDER, which should be on a local disk with a short path (a socket's path has 107 characters),
# but for a link to its configuration where SLURM's commands, inside jobs too, look for it; a cluster that is there already
# is left alone. Needs Debian's packages slurm-wlm and munge, and root.
set -euo pipefail

configuration() {
    local user name memory
    user=$(id -un) name=$(hostname -s) memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    cat <<CONF
ClusterName=one
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge.socket
CryptoType=crypto/munge
CredType=cred/munge
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerParameters=batch_sched_delay=1,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.log
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
    local program
    for program in munged slurmctld slurmd sinfo; do
        command -v "$program" >/dev/null || {
            echo "error: $program is not installed; on Debian: apt-get install slurm-wlm munge" >&2
            exit 1
        }
    done
    [ ! -e "$LINK" ] || { echo "error: $LINK exists: this machine belongs to a cluster" >&2; exit 1; }
    mkdir -p "$FOLDER/state" "$FOLDER/spool" "$(dirname "$LINK")"
    chmod 755 "$FOLDER"
    head -c 1024 /dev/urandom > "$FOLDER/munge.key"
    chmod 400 "$FOLDER/munge.key"
    munged --force --key-file="$FOLDER/munge.key" --socket="$FOLDER/munge.socket" --pid-file="$FOLDER/munged.pid" \
        --log-file="$FOLDER/munged.log" --seed-file="$FOLDER/munged.seed"
    configuration > "$FOLDER/slurm.conf"
    ln -sfn "$FOLDER/slurm.conf" "$LINK"
    slurmctld -c
    slurmd -c
    for _ in $(seq 30); do
        sinfo --noheader --format=%T 2>/dev/null | grep -qE 'idle|mixed' && return
        sleep 1
    done
    echo "error: the node did not come up: $(sinfo 2>&1 | tail -n 1); see $FOLDER/slurmctld.log and slurmd.log" >&2
    stop
    exit 1
}

stop() {
    local pid
    [ "$(readlink "$LINK")" != "$FOLDER/slurm.conf" ] || rm "$LINK"
    for pid in slurmd slurmctld munged; do
        [ -s "$FOLDER/$pid.pid" ] && kill "$(cat "$FOLDER/$pid.pid")" 2>/dev/null || true
    done
}

PATH="$PATH:/usr/sbin:/sbin"
PORT=${SLURM_NODE_PORT:-16817}
LINK=/etc/slurm/slurm.conf
[ $# = 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
FOLDER=$(mkdir -p "$2" && cd "$2" && pwd)
case $1 in
    start | stop) "$1" ;;
    *) echo "error: $1: expected start or stop" >&2; exit 2 ;;
esac
