# Garage, built from its crate: 10 to 16 minutes on two cores, once. `scripts/test` therefore
# runs it only with `--stores all`, or if the build is already in the cache.
# shellcheck shell=bash disable=SC2154

garage_version=2.5.0
garage_bin=$cache_dir/garage-$garage_version/bin/garage

server_installed() { [[ -x $garage_bin ]]; }

server_install() {
  server_installed && return 0
  have cargo || { say "garage: cargo is not installed"; return 1; }
  have curl || { say "garage: curl is not installed"; return 1; }
  say "Building Garage $garage_version into $cache_dir (once, 10 minutes or more)"
  local build=$cache_dir/garage-$garage_version.build
  mkdir -p "$build"
  # From another folder and into a separate target folder, so that this workspace's
  # configuration is not used and its build products do not change.
  (cd "$build" && CARGO_TARGET_DIR=$build/target nice -n 10 cargo install garage --locked \
    --version "=$garage_version" --root "$cache_dir/garage-$garage_version") >"$build/log" 2>&1 ||
    { say "garage: cargo install failed: $(tail -n 1 "$build/log")"; return 1; }
  rm -rf "$build"
}

server_start() {
  local dir=$1 s3 rpc admin
  read -r s3 rpc admin <<<"$(free_ports 3)"
  export TEST_S3_KIND=garage
  export TEST_S3_ENDPOINT=http://127.0.0.1:$s3
  export TEST_S3_PUBLIC_ENDPOINT=http://localhost:$s3
  export TEST_S3_REGION=garage
  export TEST_S3_BUCKET=uploads
  TEST_S3_ACCESS_KEY_ID=GK$(random_hex 12)
  TEST_S3_SECRET_ACCESS_KEY=$(random_hex 32)
  export TEST_S3_ACCESS_KEY_ID TEST_S3_SECRET_ACCESS_KEY

  cat >"$dir/garage.toml" <<TOML
metadata_dir = "$dir/meta"
data_dir = "$dir/data"
db_engine = "lmdb"
replication_factor = 1
rpc_secret = "$(random_hex 32)"
rpc_bind_addr = "127.0.0.1:$rpc"
rpc_public_addr = "127.0.0.1:$rpc"

[s3_api]
api_bind_addr = "127.0.0.1:$s3"
s3_region = "$TEST_S3_REGION"

[admin]
api_bind_addr = "127.0.0.1:$admin"
TOML
  chmod 600 "$dir/garage.toml" # Garage refuses a secret that others could read
  GARAGE_DEFAULT_ACCESS_KEY=$TEST_S3_ACCESS_KEY_ID \
    GARAGE_DEFAULT_SECRET_KEY=$TEST_S3_SECRET_ACCESS_KEY GARAGE_DEFAULT_BUCKET=$TEST_S3_BUCKET \
    spawn "$dir/garage.log" "$garage_bin" -c "$dir/garage.toml" server \
    --single-node --default-bucket
  wait_until 60 "$server_pid" bucket GET
}
