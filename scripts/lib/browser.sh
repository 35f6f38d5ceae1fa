# Finds or fetches a headless Chromium, and Playwright for Python, which drives it. Sourced, after
# common.sh, by scripts that define `unavailable`.
# shellcheck shell=bash disable=SC2154,SC2034

find_chromium() {
  local name
  for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'; do
    if [[ -n $name ]] && have "$name"; then
      command -v "$name"
      return 0
    fi
  done
  return 1
}
fetch_chromium() {
  find_chromium >/dev/null && return 0
  say "Installing chromium with apt-get"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends chromium; } >&2
}
if ! chromium=$(find_chromium); then
  if [[ $(id -u) != 0 ]] || ! have apt-get; then
    unavailable "Chromium is not installed, and only root with apt-get can install it"
  fi
  locked chromium fetch_chromium || unavailable "Chromium is not installed, and apt-get cannot install it"
  chromium=$(find_chromium) || unavailable "apt-get installed chromium, but no Chromium program is found"
fi

have python3 || unavailable "python3 is not installed"
playwright=1.65.2
tools=$cache_dir/playwright-$playwright
with_tools() { PYTHONPATH=$tools${PYTHONPATH:+:$PYTHONPATH} "$@"; }
fetch_playwright() {
  with_tools python3 -c 'import playwright.sync_api' 2>/dev/null && return 0
  rm -rf "$tools" # left by an interrupted run
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --target "$tools" "playwright==$playwright" >&2
}
locked playwright fetch_playwright || unavailable "Playwright is not installed, and pip cannot fetch it"
