# Helpers for all scripts in this folder. Sourced, never run.
# shellcheck shell=bash

# shellcheck disable=SC2034 # for the scripts that source this
repo_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Built and downloaded servers are kept here, outside the repository, so that a fresh clone
# finds them again. Every file in it can be deleted at any time.
cache_dir=${UPLOAD_COORDINATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/upload-coordinator}

say() { printf '%s\n' "$*" >&2; }
die() {
  say "${0##*/}: $*"
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# free_ports COUNT: prints free loopback ports on one line. A port cannot be reserved for a program
# that binds it later. Random ports make it unlikely that parallel runs choose the same one. They are
# below the range from which the kernel assigns ports to clients. Callers try again if a port was taken.
free_ports() {
  local count=$1 port seen=' '
  while ((count > 0)); do
    port=$((20000 + RANDOM % 12000))
    [[ $seen == *" $port "* ]] && continue
    seen+="$port "
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
    printf '%s ' "$port"
    count=$((count - 1))
  done
  echo
}

# random_hex BYTES
random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# wait_until SECONDS PID COMMAND...: repeats the command until it succeeds. Fails after SECONDS, or
# if the process has ended.
wait_until() {
  local deadline=$((SECONDS + $1)) pid=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || return 1
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# service_log WORK: prints the log file for a service that a script starts. scripts/test searches the
# detailed logs in TEST_LOG_DIR for secrets.
service_log() {
  if [[ -n ${TEST_LOG_DIR:-} ]]; then
    mkdir -p "$TEST_LOG_DIR"
    printf '%s' "$TEST_LOG_DIR/${0##*/}.log"
  else
    printf '%s' "$1/server.log"
  fi
}
# no_secret_in_log TEXT...: records secrets of this run. No log may contain them.
no_secret_in_log() { [[ -z ${TEST_LOG_DIR:-} ]] || printf '%s\n' "$@" >>"$TEST_LOG_DIR/secrets"; }

# run_in_group COMMAND...: runs a command in a separate process group and returns its exit code.
# `stop_group` ends it with all its child processes (for example cargo's test binaries). Without this,
# a `kill` of a script would only reach bash, which waits for its child.
group_pid=
run_in_group() {
  set -m
  "$@" <&0 &
  group_pid=$!
  set +m
  local code=0
  wait "$group_pid" || code=$?
  group_pid=
  return "$code"
}
# Waits for the whole group, not only its first process: servers take a moment to stop.
stop_group() {
  [[ -n $group_pid ]] || return 0
  local deadline=$((SECONDS + 30))
  kill -TERM -- "-$group_pid" 2>/dev/null || true
  while kill -0 -- "-$group_pid" 2>/dev/null; do
    if ((SECONDS >= deadline)); then
      kill -KILL -- "-$group_pid" 2>/dev/null || true
      break
    fi
    sleep 0.1
  done
  group_pid=
}

# on_exit FUNCTION: called once at the end of the script, even after a signal.
on_exit() {
  # shellcheck disable=SC2064 # the name of the function is expanded now
  trap "trap - EXIT INT TERM HUP; $1" EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# locked NAME COMMAND...: runs the command under a lock of this machine, so that two runs do not build
# the same server at the same time. Without flock (macOS) there is no lock, and both build it.
locked() {
  local name=$1
  shift
  mkdir -p "$cache_dir"
  if have flock; then
    (
      flock 9
      "$@"
    ) 9>"$cache_dir/$name.lock"
  else
    "$@"
  fi
}

# apt_install NAME PACKAGE: installs a package with apt-get, for the server NAME. Fails, with the reason,
# without apt-get or without root.
apt_install() {
  local name=$1 package=$2
  if ! have apt-get || ((EUID != 0)); then
    say "$name: $package is not installed, and only root with apt-get can install it"
    return 1
  fi
  say "Installing $package with apt-get"
  mkdir -p "$cache_dir"
  local log=$cache_dir/$name-install.log
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "$package"; } </dev/null >"$log" 2>&1; then
    say "$name: apt-get failed: $(tail -n 1 "$log")"
    return 1
  fi
}

# bucket METHOD: PUT creates TEST_S3_BUCKET, GET checks whether it exists.
bucket() {
  # The header is set here because older versions of curl omit it, and S3 requires it.
  curl -fsS -o /dev/null -X "$1" "$TEST_S3_ENDPOINT/$TEST_S3_BUCKET" \
    --user "$TEST_S3_ACCESS_KEY_ID:$TEST_S3_SECRET_ACCESS_KEY" \
    --aws-sigv4 "aws:amz:$TEST_S3_REGION:s3" -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD'
}
