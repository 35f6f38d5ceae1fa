# PostgreSQL: the server in DATABASE_URL if that is a PostgreSQL URL (its user needs the right to
# CREATE DATABASE), otherwise a private server from the installed binaries.
# shellcheck shell=bash disable=SC2154

# On Debian the server's binaries are not in the PATH, but in a folder for each major version.
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
  apt_install postgres postgresql || return 1
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
    have setpriv || { say "postgres: setpriv is not installed, which is needed to run as another user"; return 1; }
    user=nobody
    ! id postgres >/dev/null 2>&1 || user=postgres
    as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
    chown -R "$user" "$dir"
  fi
  # A linguistic sort order, as in most databases. Code that expects byte order (keys in a bucket
  # listing) then fails here and not in production.
  local collation=()
  ! "$bin/initdb" --help | grep -q icu-locale || collation=(--locale-provider=icu --icu-locale=en-US)
  # initdb requires a current folder that its user may enter.
  (cd "$dir" && ${as[@]+"${as[@]}"} "$bin/initdb" -D "$dir/data" --username=test \
    --auth=scram-sha-256 --pwfile="$dir/password" --encoding=UTF8 --locale=C \
    ${collation[@]+"${collation[@]}"} --no-sync) \
    >"$dir/initdb.log" 2>&1 || return 1
  # fsync, synchronous_commit and full_page_writes matter only after a crash of the machine, and this
  # data is deleted after the run. Without them, commits do not wait for the disk. Benchmarks set
  # WITH_DURABLE_POSTGRES=1, which turns them on.
  local not_durable=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)
  [[ -z ${WITH_DURABLE_POSTGRES:-} ]] || not_durable=()
  # A test that ends while it connects leaves an unfinished login, and DROP DATABASE of every other
  # test waits for it. The default timeout of one minute is too long.
  WITH_SERVER_USER=$user spawn "$dir/postgres.log" "$bin/postgres" -D "$dir/data" \
    -c listen_addresses=127.0.0.1 -c port="$port" -c unix_socket_directories="$dir" \
    ${not_durable[@]+"${not_durable[@]}"} -c max_connections=200 \
    -c authentication_timeout=5s
  wait_until 60 "$server_pid" grep -q 'ready to accept connections' "$dir/postgres.log" || return 1
  export TEST_POSTGRES_URL=postgres://test:$password@127.0.0.1:$port/postgres
}
