# usage: sh guard.sh FOLDER PROGRAMS < COMMANDS
# Owns one PostgreSQL server and its folder, and ends both when stdin ends: a test process holds the other end, so however that ends, nothing stays.
# A command is a line: `init PASSWORD`, `start PORT`, `stop MODE`, `freeze`, `thaw`. The answer is a line: `ok`, or `failed` (FOLDER/log says why).
# All that could be left over is started here, one after the other, so the end of stdin never finds something half started.
set -u
folder=$1 programs=$2
data=$folder/data log=$folder/log

# Who cleans up must not go first, and may find that nobody reads the answers any more.
trap '' HUP INT TERM PIPE
umask 077
mkdir "$folder" && cd "$folder" || exit
echo ok

init() {
    echo "$1" >password
    # The files of a new cluster need not survive a power failure; what the server writes later is synced.
    "$programs/initdb" --pgdata="$data" --username=postgres --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --no-locale --no-sync &&
        echo "include '$folder/settings.conf'" >>"$data/postgresql.conf"
}

start() {
    "$programs/pg_ctl" start --silent --wait --pgdata="$data" --log="$log" --options="-p $1"
}

stop() {
    "$programs/pg_ctl" stop --silent --wait --pgdata="$data" --mode="$1"
}

# The server's main process, if there is one.
main_process() {
    head -n 1 "$data/postmaster.pid"
}

# The processes that it has started: one for each connection, and some of its own.
others() {
    cat "/proc/$1/task/$1/children"
}

# First the one that starts others: once it stands still, the list of them is complete.
freeze() {
    main=$(main_process) && halt "$main" && others=$(others "$main") || return
    for other in $others; do
        halt "$other" || :
    done
}

# Signals arrive some moments after they were sent. One that has ended meanwhile is as good.
halt() {
    kill -STOP "$1" || return
    while [ -e "/proc/$1" ] && ! grep -q '^State:[[:space:]]*[TZ]' "/proc/$1/status"; do :; done
}

thaw() {
    main=$(main_process) || return
    # shellcheck disable=SC2046
    kill -CONT $(others "$main") "$main"
}

while read -r command; do
    # shellcheck disable=SC2086  # a command and its argument
    if $command </dev/null >>"$log" 2>&1; then echo ok; else echo failed; fi
done

# `immediate` frees what the kernel keeps for the server, as killing would not.
if [ -e "$data/postmaster.pid" ]; then
    thaw
    if ! stop immediate; then
        main=$(main_process)
        # shellcheck disable=SC2046
        kill -KILL "$main" $(others "$main")
    fi
fi >>"$log" 2>&1 </dev/null
cd / && rm -rf "$folder"
