# MinIO, built once from its Go module, which takes some minutes. The project has published only source
# code since October 2025. The version is the newest commit that the Go module proxy serves.
# shellcheck shell=bash disable=SC2154

minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
minio_bin=$cache_dir/minio-$minio_version/minio

server_installed() { [[ -x $minio_bin ]]; }

server_install() {
  server_installed && return 0
  have go || { say "minio: go 1.24 or newer is not installed"; return 1; }
  have curl || { say "minio: curl is not installed"; return 1; }
  say "Building MinIO $minio_version into $cache_dir (once, some minutes)"
  local build=$cache_dir/minio-$minio_version.build
  mkdir -p "$build"
  # `-s -w` omits the symbols, so that the linker needs much less memory.
  GOBIN=$build GOFLAGS=-mod=mod go install -ldflags='-s -w' \
    "github.com/minio/minio@$minio_version" >"$build/log" 2>&1 ||
    { say "minio: go install failed: $(tail -n 1 "$build/log")"; return 1; }
  mkdir -p "$(dirname "$minio_bin")"
  mv "$build/minio" "$minio_bin" # in one step, so that an interrupted build is never used
  rm -rf "$build"
}

server_start() {
  local dir=$1 port console hook
  read -r port console hook <<<"$(free_ports 3)"
  export TEST_S3_KIND=minio
  export TEST_S3_ENDPOINT=http://127.0.0.1:$port
  export TEST_S3_PUBLIC_ENDPOINT=http://localhost:$port
  export TEST_S3_REGION=us-east-1
  export TEST_S3_BUCKET=uploads
  TEST_S3_ACCESS_KEY_ID=test-$(random_hex 4)
  TEST_S3_SECRET_ACCESS_KEY=$(random_hex 20)
  export TEST_S3_ACCESS_KEY_ID TEST_S3_SECRET_ACCESS_KEY
  # MinIO sends bucket events to this address after a test has configured them with
  # PutBucketNotificationConfiguration and this ARN. Only one test at a time can use it. There is no
  # queue directory, because with one MinIO sends its queued events only every 3 s.
  export TEST_S3_WEBHOOK_ADDRESS=127.0.0.1:$hook
  export TEST_S3_WEBHOOK_ARN=arn:minio:sqs:us-east-1:TEST:webhook
  TEST_S3_WEBHOOK_TOKEN=$(random_hex 16)
  export TEST_S3_WEBHOOK_TOKEN

  mkdir "$dir/data"
  MINIO_ROOT_USER=$TEST_S3_ACCESS_KEY_ID \
    MINIO_ROOT_PASSWORD=$TEST_S3_SECRET_ACCESS_KEY \
    MINIO_REGION=$TEST_S3_REGION MINIO_BROWSER=off MINIO_UPDATE=off \
    MINIO_KMS_SECRET_KEY="test:$(head -c 32 /dev/urandom | base64)" \
    MINIO_NOTIFY_WEBHOOK_ENABLE_TEST=on \
    MINIO_NOTIFY_WEBHOOK_ENDPOINT_TEST=http://$TEST_S3_WEBHOOK_ADDRESS/api/events/s3 \
    MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_TEST="Bearer $TEST_S3_WEBHOOK_TOKEN" \
    spawn "$dir/minio.log" "$minio_bin" server --quiet \
    --address "127.0.0.1:$port" --console-address "127.0.0.1:$console" "$dir/data"
  wait_until 60 "$server_pid" curl -fsS "$TEST_S3_ENDPOINT/minio/health/cluster" &&
    bucket PUT
}
