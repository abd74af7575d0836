#!/usr/bin/env bash
# Records docs/session.svg: what the README's first command prints, each line when it came. Run it again when that has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

command=(cargo run --release -- quickstart --once)
cargo build --quiet --release --locked

# Lines of stdout, each with the milliseconds that it took to come.
record() {
    local start=${EPOCHREALTIME/./} line
    "${command[@]}" 2>/dev/null | while IFS= read -r line; do
        printf '%d\t%s\n' $(((${EPOCHREALTIME/./} - start) / 1000)) "$line"
    done
}

# One picture. It moves only for those who have not asked for less motion; for everyone else all lines are there at once.
draw() {
    awk -F '\t' -v prompt="\$ ${command[*]}" '
        function escaped(text) {
            gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text)
            return text
        }
        function coloured(text) {
            gsub(/SUCCEEDED/, "<tspan class=\"good\">&</tspan>", text)
            gsub(/RUNNING/, "<tspan class=\"busy\">&</tspan>", text)
            if (match(text, /^[0-9]+-[0-9]+-[0-9]+T[^ ]+|^(server|worker|job) /))
                text = "<tspan class=\"faint\">" substr(text, 1, RLENGTH) "</tspan>" substr(text, RLENGTH + 1)
            return text
        }
        function show(text, delay) {
            rows++
            body = body sprintf("<text x=\"16\" y=\"%d\" style=\"animation-delay:%dms\">%s</text>\n", 18 + rows * 19, delay, text)
        }
        BEGIN { show("<tspan class=\"strong\">" escaped(prompt) "</tspan>", 0) }
        { if (length($2) > columns) columns = length($2); show(coloured(escaped($2)), $1) }
        END {
            printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\">\n", 32 + columns * 8.43, 36 + rows * 19
            print "<style>"
            print "text { font: 14px ui-monospace, \"DejaVu Sans Mono\", Menlo, Consolas, monospace; fill: #c9d1d9; white-space: pre; }"
            print ".strong { font-weight: bold; fill: #ffffff; } .faint { fill: #8b949e; } .good { fill: #56d364; } .busy { fill: #56d4dd; }"
            print "@media (prefers-reduced-motion: no-preference) { text { animation: come 80ms both; } }"
            print "@keyframes come { from { opacity: 0; } }"
            print "</style>"
            print "<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>"
            printf "%s</svg>\n", body
        }'
}

record | draw >docs/session.svg.new
mv docs/session.svg.new docs/session.svg
