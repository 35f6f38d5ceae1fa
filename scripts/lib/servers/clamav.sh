# ClamAV: the program of its daemon. The tests start it themselves, with signatures of their own, so
# that they can stop it in the middle of their work.
# shellcheck shell=bash disable=SC2154

server_installed() { have clamd || [[ -x /usr/sbin/clamd ]]; }

server_install() {
  server_installed && return 0
  if ! have apt-get || ((EUID != 0)); then
    say "clamav: clamd is not installed, and only root can install it"
    return 1
  fi
  say "Installing ClamAV with apt-get"
  mkdir -p "$cache_dir"
  local log=$cache_dir/clamav-install.log
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends clamav-daemon; } </dev/null >"$log" 2>&1; then
    say "clamav: apt-get failed: $(tail -n 1 "$log")"
    return 1
  fi
  server_installed || { say "clamav: installed, but without clamd"; return 1; }
}

server_start() {
  TEST_CLAMD=$(command -v clamd || echo /usr/sbin/clamd)
  export TEST_CLAMD
}
