#!/usr/bin/env bash
# Starts a task for each line of a file over HTTP, as often as it is run: the same line is the same task and the same command.
#
#     GLYPH_URL=http://127.0.0.1:8080 GLYPH_TOKEN=… ./producer.sh sentiment-dual items.jsonl
#
# A line is `{"key": "review-17", "input": {"text": "…"}}`. Needs bash, curl and jq. Prints one line for each task that is
# not started, and ends with 0 if there is none.
set -euo pipefail

url=${GLYPH_URL:-http://127.0.0.1:8080}
workflow=$1
failed=0

# The UUID that a name always has in a namespace (version 5 of RFC 9562).
uuid5() { # uuid5 NAMESPACE NAME
  local bytes hex
  bytes=$(sed 's/../\\x&/g' <<<"${1//-/}")
  # shellcheck disable=SC2059
  hex=$({ printf "$bytes" && printf %s "$2"; } | sha1sum)
  printf '%s-%s-5%s-%x%s-%s' "${hex:0:8}" "${hex:8:4}" "${hex:13:3}" $((0x${hex:16:1} & 3 | 8)) "${hex:17:3}" "${hex:20:12}"
}

# Curl tries again what may pass (no connection, 408, 429, 5xx), and waits as long as `Retry-After` says. That is harmless: the
# same Idempotency-Key gets the first answer again.
start() { # start TASK BODY; prints the answer, and its status on a line of its own
  curl --silent --show-error --retry 10 --retry-connrefused --max-time 60 --data-binary @- --write-out '\n%{http_code}\n' \
    --header 'content-type: application/json' --header "idempotency-key: $(uuid5 "$1" start)" \
    ${GLYPH_TOKEN:+--header "authorization: Bearer $GLYPH_TOKEN"} "$url/api/v1/tasks/$1/start" <<<"$2"
}

while IFS= read -r line; do
  task=$(uuid5 6ba7b811-9dad-11d1-80b4-00c04fd430c8 "glyph:task:$(jq -r .key <<<"$line")") # as `glyph task id KEY`
  body=$(jq -c --arg workflow "$workflow" '{workflow: $workflow, input}' <<<"$line")
  answer=$(start "$task" "$body") || true
  if [[ $(tail -n 1 <<<"$answer") != 201 ]]; then
    # What goes wrong is a problem document: `code` for programs, `detail` for people.
    why=$(head -n 1 <<<"$answer" | jq -r '"\(.code): \(.detail)"' 2>/dev/null) || why="no answer"
    echo "$task: ${why:-no answer}"
    failed=1
  fi
done <"$2"
exit "$failed"
