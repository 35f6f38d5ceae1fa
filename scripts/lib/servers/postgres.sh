# PostgreSQL: the server that DATABASE_URL names, where that is a PostgreSQL's (its user must
# be allowed to CREATE DATABASE), else a private one from the machine's own binaries.
# shellcheck shell=bash disable=SC2154

# Debian keeps the server's binaries off the PATH, one folder a major version.
postgres_bin() {
  local dir
  for dir in "$(dirname "$(command -v initdb 2>/dev/null || echo /nowhere/x)")" \
    $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) \
    /usr/local/bin /opt/homebrew/bin /usr/local/pgsql/bin; do
    if [[ -x $dir/initdb && -x $dir/postgres ]]; then
      echo "$dir"
      return 0
    fi
  done
  return 1
}

postgres_given() { [[ ${DATABASE_URL:-} == postgres://* || ${DATABASE_URL:-} == postgresql://* ]]; }

server_installed() { postgres_given || postgres_bin >/dev/null; }

server_install() {
  server_installed && return 0
  if ! have apt-get || ((EUID != 0)); then
    say "postgres: no DATABASE_URL, no initdb and postgres here, and no root to install them"
    return 1
  fi
  say "Installing PostgreSQL with apt-get"
  mkdir -p "$cache_dir"
  local log=$cache_dir/postgres-install.log
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends postgresql; } </dev/null >"$log" 2>&1; then
    say "postgres: apt-get failed: $(tail -n 1 "$log")"
    return 1
  fi
  postgres_bin >/dev/null || { say "postgres: installed, but without initdb and postgres"; return 1; }
}

server_start() {
  if postgres_given; then
    export TEST_POSTGRES_URL=$DATABASE_URL
    return 0
  fi
  local dir=$1 bin port password
  bin=$(postgres_bin)
  read -r port <<<"$(free_ports 1)"
  password=$(random_hex 16)
  printf '%s\n' "$password" >"$dir/password"

  local as=() user=
  if ((EUID == 0)); then
    # PostgreSQL refuses to run as root.
    have setpriv || { say "postgres: no setpriv to leave root with"; return 1; }
    user=nobody
    ! id postgres >/dev/null 2>&1 || user=postgres
    as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
    chown -R "$user" "$dir"
  fi
  # A linguistic sort order, as most installed databases have: code that takes it for byte
  # order (keys in a bucket listing) fails here rather than in production.
  local collation=()
  ! "$bin/initdb" --help | grep -q icu-locale || collation=(--locale-provider=icu --icu-locale=en-US)
  # From a folder that the other user may enter: initdb complains otherwise.
  (cd "$dir" && ${as[@]+"${as[@]}"} "$bin/initdb" -D "$dir/data" --username=test \
    --auth=scram-sha-256 --pwfile="$dir/password" --encoding=UTF8 --locale=C \
    ${collation[@]+"${collation[@]}"} --no-sync) \
    >"$dir/initdb.log" 2>&1 || return 1
  # fsync, synchronous_commit and full_page_writes only matter after a crash of the machine,
  # and this data does not outlive the run; without them commits do not wait for the disk.
  # What is measured is measured with them: WITH_DURABLE_POSTGRES=1.
  local hasty=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)
  [[ -z ${WITH_DURABLE_POSTGRES:-} ]] || hasty=()
  # A test that ends while it connects leaves a login half done, for which DROP DATABASE of
  # every other test waits: not for the minute that is usual.
  WITH_SERVER_USER=$user spawn "$dir/postgres.log" "$bin/postgres" -D "$dir/data" \
    -c listen_addresses=127.0.0.1 -c port="$port" -c unix_socket_directories="$dir" \
    ${hasty[@]+"${hasty[@]}"} -c max_connections=200 \
    -c authentication_timeout=5s
  wait_until 60 "$server_pid" grep -q 'ready to accept connections' "$dir/postgres.log" || return 1
  export TEST_POSTGRES_URL=postgres://test:$password@127.0.0.1:$port/postgres
}
