# MiniStack (S3 and SQS, with bucket events from S3 to SQS), from its wheel. It is an emulator: it
# tests the protocol of the queue, but does not show how a real store behaves.
# shellcheck shell=bash disable=SC2154

ministack_version=1.5.33
ministack_bin=$cache_dir/ministack-$ministack_version/bin/ministack

server_installed() { [[ -x $ministack_bin ]]; }

server_install() {
  server_installed && return 0
  have curl || { say "ministack: curl is not installed"; return 1; }
  python3 -m venv --help >/dev/null 2>&1 || { say "ministack: python3 with venv is not installed"; return 1; }
  say "Fetching MiniStack $ministack_version into $cache_dir"
  local home=$cache_dir/ministack-$ministack_version
  # A virtual environment contains its own path, so it cannot be built elsewhere and moved here. pip
  # writes the program, for which server_installed looks, at the end.
  rm -rf "$home"
  python3 -m venv "$home" >"$cache_dir/ministack.log" 2>&1 &&
    "$home/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
      "ministack==$ministack_version" >>"$cache_dir/ministack.log" 2>&1 ||
    {
      rm -rf "$home"
      say "ministack: pip failed: $(tail -n 1 "$cache_dir/ministack.log")"
      return 1
    }
}

server_start() {
  local dir=$1 port
  read -r port <<<"$(free_ports 1)"
  export TEST_S3_KIND=ministack
  export TEST_S3_ENDPOINT=http://127.0.0.1:$port
  export TEST_S3_PUBLIC_ENDPOINT=http://localhost:$port
  export TEST_S3_REGION=us-east-1
  export TEST_S3_BUCKET=uploads
  # The root key of MiniStack. Any other key would have to be created first.
  TEST_S3_ACCESS_KEY_ID=test-$(random_hex 4)
  TEST_S3_SECRET_ACCESS_KEY=$(random_hex 20)
  export TEST_S3_ACCESS_KEY_ID TEST_S3_SECRET_ACCESS_KEY
  export TEST_SQS_ENDPOINT=$TEST_S3_ENDPOINT

  GATEWAY_PORT=$port BIND_HOST=127.0.0.1 SERVICES=s3,sqs AUTH=true HOME=$dir TMPDIR=$dir \
    AWS_ACCESS_KEY_ID=$TEST_S3_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$TEST_S3_SECRET_ACCESS_KEY \
    spawn "$dir/ministack.log" "$ministack_bin"
  wait_until 60 "$server_pid" curl -fsS "$TEST_S3_ENDPOINT/_ministack/health" && bucket PUT
}
