# ClamAV: only the program of its daemon. The tests start it themselves with test signatures, because
# some of them stop it and start it again.
# shellcheck shell=bash disable=SC2154

server_installed() { have clamd || [[ -x /usr/sbin/clamd ]]; }

server_install() {
  server_installed && return 0
  apt_install clamav clamav-daemon || return 1
  server_installed || { say "clamav: installed, but without clamd"; return 1; }
}

server_start() {
  TEST_CLAMD=$(command -v clamd || echo /usr/sbin/clamd)
  export TEST_CLAMD
}
