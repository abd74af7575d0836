#!/bin/sh
# A worker's script for the driver `storagegrid_ansible`: creates an S3 bucket in a grid that is a folder with three sites.
#
# `longhaul work --driver storagegrid_ansible -- examples/quickstart/create-bucket.sh` runs it once for each task:
#   stdin    the task as JSON; what to create is in requestPayload
#   stdout   {"progress":{…}} for each step, and {"result":{…}} at the end
#   stderr   what went wrong, for a person
#   exit     0 done · 1 failed · 75 failed, but worth another try
# The grid is the folder GRID_DIR, or a new temporary one. Running it again for the same bucket does no harm.
set -eu

SITES="nyc lon tyo"
STEPS=9
# Seconds that each step takes besides its work: a real grid is not a local disk.
PACE=0.4

fail() {
    echo "create-bucket: $1" >&2
    exit "${2:-1}"
}

# Prints each value of a JSON text on a line of its own: the path, a tab, the value. Escapes stay as they are.
flatten_json() {
    awk '
        { text = text $0 "\n" }
        END {
            depth = 0
            while (text != "") {
                c = substr(text, 1, 1)
                if (c == "\"") {
                    if (!match(text, /^"([^"\\]|\\.)*"/)) exit 1
                    word = substr(text, 2, RLENGTH - 2)
                } else if (match(text, /^[-+.0-9A-Za-z]+/)) {
                    word = substr(text, 1, RLENGTH)
                } else {
                    text = substr(text, 2)
                    if (c == "{" || c == "[") { kind[++depth] = c; item[depth] = 0; key[depth] = (c == "[") ? 0 : "" }
                    if (c == "}" || c == "]") depth--
                    if (c == "," && kind[depth] == "[") key[depth] = ++item[depth]
                    continue
                }
                text = substr(text, RLENGTH + 1)
                if (kind[depth] == "{" && match(text, /^[ \t\r\n]*:/)) {
                    key[depth] = word
                    text = substr(text, RLENGTH + 1)
                    continue
                }
                path = key[1]
                for (i = 2; i <= depth; i++) path = path "." key[i]
                print path "\t" word
            }
        }'
}

# The value at a path of the task; empty if it is not there.
task_value() {
    printf '%s\n' "$task" | awk -F '\t' -v path="$1" '$1 == path { print $2; exit }'
}

done_steps=0
step() {
    done_steps=$((done_steps + 1))
    sleep "$PACE"
    printf '{"progress":{"done":%d,"total":%d,"unit":"steps","message":"%s"}}\n' "$done_steps" "$STEPS" "$1"
}

checksum() {
    cksum <"$1" | awk '{ print $1 "-" $2 }'
}

task=$(flatten_json) || fail "stdin is not the JSON of a task"
name=$(task_value requestPayload.s3_bucket_name)
account=$(task_value requestPayload.grid_account_id)
region=$(task_value requestPayload.region)
versioning=$(task_value requestPayload.versioning)
expire_days=$(task_value requestPayload.expire_days)

[ -n "$name" ] || fail "requestPayload.s3_bucket_name is missing: name the bucket to create"
[ -n "$account" ] || fail "requestPayload.grid_account_id is missing: name the account that owns the bucket"
case $account in
*[!0-9]*) fail "grid_account_id \"$account\" is not a number" ;;
esac
case $name in
*[!a-z0-9.-]* | [.-]* | *[.-] | *..*)
    fail "\"$name\" is no valid bucket name: use a-z, 0-9, dots and hyphens, and begin and end with a letter or digit"
    ;;
esac
[ ${#name} -ge 3 ] && [ ${#name} -le 63 ] || fail "\"$name\" is no valid bucket name: 3 to 63 characters"
# A number may come as 30.0: in protobuf's JSON objects all numbers are doubles.
expire_days=${expire_days%.0}
case ${expire_days:=30} in
*[!0-9]*) fail "expire_days \"$expire_days\" is not a number" ;;
esac
case ${region:=us-east-1} in
*[!a-z0-9-]*) fail "region \"$region\" is no valid region: use a-z, 0-9 and hyphens" ;;
esac

grid=${GRID_DIR:-$(mktemp -d)}
bucket=$grid/$account/$name
mkdir -p "$grid/$account" "$grid/.fences" || fail "can not write to the grid at $grid" 75

# An attempt that lost its lease may still be running: the grid refuses whoever comes with an older token of the same task.
token=${LONGHAUL_FENCING_TOKEN:-0}
fence=$grid/.fences/${LONGHAUL_TASK_ID:-none}
if [ -s "$fence" ] && [ "$(cat "$fence")" -gt "$token" ]; then
    fail "a newer attempt works on $name (fencing token $(cat "$fence"), ours is $token)"
fi
echo "$token" >"$fence"

# On cancel, leave nothing behind that is half made; a bucket that was there before stays.
[ -d "$bucket" ] && existed=yes || existed=no
stop() {
    [ "$existed" = yes ] || rm -rf "$bucket"
    fail "stopped while creating $name" 143
}
trap stop TERM INT
step "checked the name $name"

mkdir -p "$bucket"
step "created the bucket for account $account"

cat >"$bucket/policy.json" <<EOF
{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"$account"},"Action":"s3:*","Resource":["arn:aws:s3:::$name","arn:aws:s3:::$name/*"]}]}
EOF
step "wrote the access policy"

[ "$versioning" = true ] && status=Enabled || status=Suspended
echo "{\"Status\":\"$status\"}" >"$bucket/versioning.json"
step "set versioning to $status"

echo "{\"Rules\":[{\"ID\":\"expire-old-versions\",\"Status\":\"Enabled\",\"NoncurrentVersionExpiration\":{\"NoncurrentDays\":$expire_days}}]}" >"$bucket/lifecycle.json"
step "set old versions to expire after $expire_days days"

for site in $SITES; do
    mkdir -p "$bucket/sites/$site"
    cp "$bucket/policy.json" "$bucket/versioning.json" "$bucket/lifecycle.json" "$bucket/sites/$site/"
    step "copied the configuration to site $site"
done

for site in $SITES; do
    for file in policy.json versioning.json lifecycle.json; do
        [ "$(checksum "$bucket/$file")" = "$(checksum "$bucket/sites/$site/$file")" ] ||
            fail "site $site holds another $file than was written" 75
    done
done
step "all sites agree"

trap - TERM INT
printf '{"result":{"s3_bucket_name":"%s","arn":"arn:aws:s3:::%s","region":"%s","versioning":"%s","sites":3,"path":"%s"}}\n' \
    "$name" "$name" "$region" "$status" "$bucket"
