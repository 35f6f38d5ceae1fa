# rclone, for the comparison of `scripts/bench move`. Built once from its module into the cache.
# shellcheck shell=bash disable=SC2154

rclone_version=v1.76.0
rclone_bin=$cache_dir/rclone-$rclone_version/rclone

rclone_install() {
  [[ -x $rclone_bin ]] && return 0
  have go || { say "rclone: go 1.26 or newer is not installed"; return 1; }
  say "Building rclone $rclone_version into $cache_dir (once, some minutes)"
  local build=$cache_dir/rclone-$rclone_version.build
  mkdir -p "$build"
  GOBIN=$build CGO_ENABLED=0 go install -ldflags='-s -w' \
    "github.com/rclone/rclone@$rclone_version" >"$build/log" 2>&1 ||
    { say "rclone: go install failed: $(tail -n 1 "$build/log")"; return 1; }
  mkdir -p "$(dirname "$rclone_bin")"
  mv "$build/rclone" "$rclone_bin" # in one step, so that an interrupted build is never used
  rm -rf "$build"
}
