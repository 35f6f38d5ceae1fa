# Azurite, Microsoft's emulator of Azure Blob Storage, from its npm package. It is an emulator:
# src/tests/storage lists where it differs from the documentation of Azure.
# shellcheck shell=bash disable=SC2154

# The last version that runs on Node.js 20.
azurite_version=3.35.0
azurite_main=$cache_dir/azurite-$azurite_version/node_modules/azurite/dist/src/blob/main.js

server_installed() { [[ -e $azurite_main ]] && have node; }

server_install() {
  server_installed && return 0
  have npm && have node || { say "azurite: Node.js with npm is not installed"; return 1; }
  say "Fetching Azurite $azurite_version into $cache_dir"
  local home=$cache_dir/azurite-$azurite_version build=$cache_dir/azurite-$azurite_version.build
  rm -rf "$build" "$home"
  mkdir -p "$build"
  npm install --prefix "$build" --no-audit --no-fund --ignore-scripts --omit=dev \
    "azurite@$azurite_version" >"$cache_dir/azurite.log" 2>&1 ||
    {
      rm -rf "$build"
      say "azurite: npm failed: $(tail -n 1 "$cache_dir/azurite.log")"
      return 1
    }
  mv "$build" "$home"
}

# Creates the container, with a request that is signed with Shared Key.
azurite_container() {
  ACCOUNT=$TEST_S3_ACCESS_KEY_ID KEY=$TEST_S3_SECRET_ACCESS_KEY ENDPOINT=$TEST_S3_ENDPOINT \
    CONTAINER=$TEST_S3_BUCKET node -e '
      const { ACCOUNT, KEY, ENDPOINT, CONTAINER } = process.env;
      const path = `/${ACCOUNT}/${CONTAINER}`, date = new Date().toUTCString();
      const text = ["PUT", ...Array(11).fill(""), `x-ms-date:${date}`, "x-ms-version:2023-11-03",
        `/${ACCOUNT}${path}`, "restype:container"].join("\n");
      const hmac = require("crypto").createHmac("sha256", Buffer.from(KEY, "base64"));
      const headers = { "x-ms-date": date, "x-ms-version": "2023-11-03",
        authorization: `SharedKey ${ACCOUNT}:${hmac.update(text).digest("base64")}` };
      fetch(`${ENDPOINT}${path}?restype=container`, { method: "PUT", headers })
        .then((r) => process.exit(r.status === 201 || r.status === 409 ? 0 : 1), () => process.exit(1));'
}

server_start() {
  local dir=$1 port
  read -r port <<<"$(free_ports 1)"
  export TEST_S3_KIND=azurite
  export TEST_S3_ENDPOINT=http://127.0.0.1:$port
  export TEST_S3_PUBLIC_ENDPOINT=http://localhost:$port
  export TEST_S3_REGION=none # Azure has no region in its requests
  export TEST_S3_BUCKET=uploads
  # The storage account and its key.
  TEST_S3_ACCESS_KEY_ID=test$(random_hex 4)
  TEST_S3_SECRET_ACCESS_KEY=$(random_hex 32 | base64 -w0)
  export TEST_S3_ACCESS_KEY_ID TEST_S3_SECRET_ACCESS_KEY

  mkdir "$dir/data"
  AZURITE_ACCOUNTS="$TEST_S3_ACCESS_KEY_ID:$TEST_S3_SECRET_ACCESS_KEY" \
    spawn "$dir/azurite.log" node "$azurite_main" --blobHost 127.0.0.1 --blobPort "$port" \
    --location "$dir/data" --disableProductStyleUrl --disableTelemetry --silent \
    --blobKeepAliveTimeout 60
  wait_until 60 "$server_pid" azurite_container
}
