# Steps of scripts/demo for files in parts, for waiting and for webhooks. scripts/demo sources this
# file, which uses its functions and variables.
# shellcheck shell=bash disable=SC2154

# ---- Files in parts

# sign_parts NUMBERS...: signs several parts of the upload in one request, as clients do. Their URLs
# are in $work/part-NUMBER.url.
sign_parts() {
  local i=0 number numbers
  numbers=$(printf ', %s' "$@")
  call -X POST "$url/api/uploads/$upload/parts" -H 'content-type: application/json' \
    --data-binary "{\"part_numbers\": [${numbers#, }]}"
  expect_code "signing the parts $*" 200
  for number in "$@"; do
    field "parts.$i.url" >"$work/part-$number.url"
    i=$((i + 1))
  done
}

# cut_part NUMBER FILE: writes the bytes of the part to $work/part.
cut_part() { dd if="$2" of="$work/part" bs="$part_size" skip=$(($1 - 1)) count=1 2>/dev/null; }

# send_parts FILE NUMBERS...
send_parts() {
  local file=$1 number
  shift
  for number in "$@"; do
    cut_part "$number" "$file"
    call -T "$work/part" "$(<"$work/part-$number.url")"
    expect_code "the PUT of part $number" 200
  done
}

# stored_parts: prints the numbers of the parts that the store has.
stored_parts() {
  call "$url/api/uploads/$upload/parts"
  expect_code "listing the parts" 200
  json "$work/body" |
    awk -F '\t' '$1 ~ /\.part_number$/ { printf "%s%s", between, $2; between = " " }'
}

# ---- Waiting

now_ms() {
  if [[ -n ${EPOCHREALTIME:-} ]]; then
    local micros=${EPOCHREALTIME//[!0-9]/}
    echo $((micros / 1000))
  else # bash before 5
    perl -MTime::HiRes=time -e 'printf "%d\n", time * 1000'
  fi
}

# begin_wait: starts a long poll for the upload in the background.
waiter_pid=
begin_wait() {
  rm -f "$work/waited" "$work/woken"
  {
    curl --silent --max-time 60 --output "$work/waited" "$url/api/uploads/$upload?wait=30"
    now_ms >"$work/woken"
  } &
  waiter_pid=$!
}
# end_wait SINCE: sets $woken_after to the ms from SINCE to the response, and $work/waited to the
# response.
woken_after=
end_wait() {
  wait "$waiter_pid" || true
  [[ -s $work/waited ]] || fail "waiting for the upload $upload" "a response" "none"
  expect "the status that ?wait= returns" uploaded "$(field status "$work/waited")"
  woken_after=$(($(<"$work/woken") - $1))
  ((woken_after >= 0)) || woken_after=0
  ((woken_after < 1000)) || fail "?wait=" "a response within 1000 ms" "$woken_after ms"
}

# bucket_events: configures MinIO to send events of new objects to the service.
bucket_events() {
  local queue="<Queue>$TEST_S3_WEBHOOK_ARN</Queue><Event>s3:ObjectCreated:*</Event>"
  call -X PUT "$TEST_S3_ENDPOINT/$TEST_S3_BUCKET?notification=" \
    --user "$TEST_S3_ACCESS_KEY_ID:$TEST_S3_SECRET_ACCESS_KEY" \
    --aws-sigv4 "aws:amz:$TEST_S3_REGION:s3" -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' \
    -H 'content-type: application/xml' --data-binary \
    "<NotificationConfiguration><QueueConfiguration>$queue</QueueConfiguration></NotificationConfiguration>"
  expect_code "configuring the events of MinIO" 200
}

# ---- Webhooks

# start_receiver: starts a back end that receives a webhook for every change.
receiver_pid=
start_receiver() {
  local secret
  mkdir "$work/hooks"
  secret=whsec_$(head -c 32 /dev/urandom | base64)
  python3 "$repo_root/scripts/lib/webhook_receiver.py" "$secret" "$work/hooks" \
    >"$work/receiver.log" 2>&1 </dev/null &
  receiver_pid=$!
  wait_until 30 "$receiver_pid" test -s "$work/hooks/port" ||
    fail "starting a receiver of webhooks" "a port" "$(cat "$work/receiver.log")"
  export UPLOAD_COORDINATOR__WEBHOOKS__ALLOW_PRIVATE=true
  UPLOAD_COORDINATOR__WEBHOOKS__DEMO__URL=http://127.0.0.1:$(<"$work/hooks/port")/
  export UPLOAD_COORDINATOR__WEBHOOKS__DEMO__URL
  export UPLOAD_COORDINATOR__WEBHOOKS__DEMO__SECRET=$secret
  no_secret_in_log "${secret#whsec_}"
}

# all_delivered: whether the receiver got the current status of every upload of this service.
all_delivered() {
  call "$url/api/uploads?limit=1000"
  expect_code "listing the uploads" 200
  json "$work/body" | awk -F '\t' '
    $1 ~ /^items\.[0-9]+\.id$/ { id = $2 }
    $1 ~ /^items\.[0-9]+\.status$/ && $2 != "pending" { print "upload." $2 " " id }' \
    >"$work/expected"
  [[ -s $work/expected && -e $work/hooks/events ]] &&
    ! grep -v -x -q -F -f "$work/hooks/events" "$work/expected"
}

# events_of UPLOAD: prints the events of one upload, in the order of their arrival.
events_of() {
  awk -v id="$1" '$2 == id { printf "%s%s", between, $1; between = " " }' "$work/hooks/events"
}
